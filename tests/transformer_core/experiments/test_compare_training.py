from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch

from tests.training_task import metrics_without_times, write_lines, write_task
from transformer_core.config import PRESETS, StackConfig
from transformer_core.data.lines import read_lines
from transformer_core.decoding.config import SearchConfig
from transformer_core.decoding.translator import Translator
from transformer_core.errors import ConfigError, DataError, Interrupted, TrainingError
from transformer_core.evaluation.metrics import evaluate_corpus
from transformer_core.experiments import compare_quality, compare_training
from transformer_core.experiments.compare_config import (
    MIXER_NAMES,
    CompareConfig,
    MixerName,
    TrainingComparison,
    model_config_of,
)
from transformer_core.experiments.compare_folder import COMPARED_FILE
from transformer_core.experiments.compare_quality import TrainedMixer, describe_mixer
from transformer_core.experiments.compare_training import MixerRun, equal_widths, mixer_runs, train_mixer
from transformer_core.experiments.config import TrainingRun
from transformer_core.experiments.progress import Progress, no_progress
from transformer_core.experiments.text_config import DataConfig
from transformer_core.experiments.train_from_text import train_from_text
from transformer_core.model import Transformer
from transformer_core.model_directory import load_model
from transformer_core.model_files import read_json
from transformer_core.training.progress import Listener, Silent, StepReport
from transformer_core.training.trainer import TrainingResult

STACK = StackConfig(num_layers=1, d_model=16, num_heads=2, d_ff=16)
CPU = torch.device("cpu")


def config(folder: Path, **values: object) -> CompareConfig:
    source, target = write_task(folder)
    training = TrainingComparison(
        folder=folder / "mixers", train_src=(source,), train_tgt=(target,), batch_size=100, dropout=0.0
    )
    return CompareConfig(stack=STACK, threads=1, device="cpu", training=replace(training, **{"max_steps": 8, **values}))  # type: ignore[arg-type]


def plan(compared: CompareConfig) -> list[MixerRun]:
    return mixer_runs(compared, no_progress, lambda text: None)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(autouse=True)
def short(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(compare_quality, "LONG_ENOUGH_SECONDS", 0.0)
    monkeypatch.setattr(compare_training, "STEPS_BETWEEN_VALIDATIONS", 5)
    yield


# --- equal sizes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stack", [STACK, PRESETS["tiny"], PRESETS["big"], replace(PRESETS["tiny"], kernel_width=9)])
def test_models_are_equally_large_and_none_has_less_than_it_was_to_have(stack: StackConfig) -> None:
    def size(mixer: MixerName, d_ff: int) -> int:
        with torch.device("meta"):
            return Transformer(model_config_of(mixer, replace(stack, d_ff=d_ff))).num_parameters()

    widths = equal_widths(stack)
    sizes = {mixer: size(mixer, d_ff) for mixer, d_ff in widths.items()}
    assert max(sizes.values()) <= 1.02 * min(sizes.values())
    assert min(widths.values()) == stack.d_ff
    assert max(sizes.values()) == pytest.approx(max(size(mixer, stack.d_ff) for mixer in MIXER_NAMES), rel=0.02)


# --- the plan ---------------------------------------------------------------------------------------------------------


def test_every_mixer_has_a_folder_and_attention_a_second_one_without_its_scale(tmp_path: Path) -> None:
    runs = {run.name: run for run in plan(config(tmp_path))}
    assert list(runs) == ["attention", "unscaled", "gru", "bigru", "lstm", "bilstm", "ssru", "conv"]
    assert all(run.run.folder == tmp_path / "mixers" / name for name, run in runs.items())
    assert runs["unscaled"].run.architecture == replace(runs["attention"].run.architecture, scale_attention=False)
    mixers = {
        name: (
            run.run.architecture.encoder_mixer,
            run.run.architecture.bidirectional,
            run.run.architecture.decoder_mixer,
        )
        for name, run in runs.items()
    }
    assert mixers["gru"] == ("gru", False, "gru")
    assert mixers["bilstm"] == ("lstm", True, "lstm")
    assert mixers["ssru"] == ("attention", False, "ssru")
    assert {(run.run.training, run.run.data) for run in runs.values()} == {
        (runs["gru"].run.training, runs["gru"].run.data)
    }
    tokenizer = tmp_path / "mixers" / "tokenizer.json"
    assert runs["gru"].run.data.tokenizer == tokenizer
    written_at = tokenizer.stat().st_mtime_ns
    again = plan(config(tmp_path))
    assert (again, tokenizer.stat().st_mtime_ns) == (list(runs.values()), written_at)
    plan(config(tmp_path, overwrite=True))
    assert tokenizer.stat().st_mtime_ns > written_at


def test_sides_that_differ_have_a_tokenizer_each(tmp_path: Path) -> None:
    words = ["".join(pair) for pair in product("abcdefgh", repeat=3)]
    files = [tmp_path / "spelled", tmp_path / "sounds"]
    write_lines(files[0], words)
    write_lines(files[1], [" ".join(word) for word in words])
    for run in plan(config(tmp_path, train_src=(files[0],), train_tgt=(files[1],))):
        assert isinstance(run.run.data, DataConfig)
        assert run.run.data.source_tokenizer == tmp_path / "mixers" / "source_tokenizer.json"
        assert run.run.data.target_tokenizer == tmp_path / "mixers" / "target_tokenizer.json"


def test_only_what_is_asked_for_is_trained_and_it_is_the_same_beside_any_others(tmp_path: Path) -> None:
    whole = config(tmp_path)
    by_name = {run.name: run for run in plan(whole)}
    assert plan(replace(whole, mixers=("conv", "gru"))) == [by_name["conv"], by_name["gru"]]


def test_a_tokenizer_that_is_given_is_taken(tmp_path: Path) -> None:
    compared = config(tmp_path)
    plan(compared)
    tokenizer = (tmp_path / "mixers" / "tokenizer.json").rename(tmp_path / "own.json")
    runs = plan(config(tmp_path, tokenizer=tokenizer))
    assert {run.run.data.tokenizer for run in runs} == {tokenizer}
    assert [path.name for path in (tmp_path / "mixers").iterdir()] == [COMPARED_FILE]


def test_one_side_alone_or_a_missing_file_is_a_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="training needs both sides"):
        plan(config(tmp_path, train_tgt=()))
    with pytest.raises(DataError, match=r"none\.tgt"):
        plan(config(tmp_path, train_tgt=(tmp_path / "none.tgt",)))
    assert not (tmp_path / "mixers").exists()


# --- equal updates ----------------------------------------------------------------------------------------------------


def trained(compared: CompareConfig) -> list[TrainedMixer]:
    assert compared.training is not None
    runs = plan(compared)
    ended = [train_mixer(run, compared.training.budget_minutes, Silent(), no_progress) for run in runs]
    return [
        describe_mixer(run, compared.training.metrics, CPU, has_diverged=not has_ended)
        for run, has_ended in zip(runs, ended, strict=True)
    ]


def test_a_model_is_the_one_that_train_makes_and_its_figures_are_its_own(tmp_path: Path) -> None:
    compared = replace(config(tmp_path), mixers=("gru",))
    (found,) = trained(compared)
    (run,) = plan(compared)
    by_hand = replace(run.run, folder=tmp_path / "by-hand")
    train_from_text(by_hand)
    weights = [(folder / "model.safetensors").read_bytes() for folder in (run.run.folder, by_hand.folder)]
    assert weights[0] == weights[1]
    record = read_json(by_hand.folder / "metadata.json")["training"]
    assert (found.steps, found.name, found.d_ff) == (8, "gru", run.d_ff)
    assert found.quality is not None
    assert found.quality.loss == record["validation"]["loss"]
    loaded = load_model(by_hand.folder)
    assert found.num_parameters == loaded.model.num_parameters()
    search = SearchConfig(beam_size=1, max_length_ratio=loaded.generation["max_length_ratio"])
    translator = Translator(loaded.model, loaded.source_tokenizer, loaded.target_tokenizer, search)
    sources = list(read_lines([by_hand.folder / "data" / "held-back.src"]))
    references = list(read_lines([by_hand.folder / "data" / "held-back.tgt"]))
    hypotheses = [translation.text for translation in translator.translate(sources)]
    assert list(found.quality.scores) == evaluate_corpus(hypotheses, [references], ["exact", "bleu"])
    assert found.quality.num_lines == len(sources) == 10
    assert found.quality.lines_per_second > 0
    assert found.tokens_per_second is not None
    assert found.tokens_per_second > 0


def test_validation_pairs_and_metrics_are_those_that_are_given(tmp_path: Path) -> None:
    source, target = write_task(tmp_path / "valid", 17, seed=5)
    compared = config(tmp_path, valid_src=(source,), valid_tgt=(target,), metrics=("wer",))
    (found,) = trained(replace(compared, mixers=("conv",)))
    assert found.quality is not None
    assert found.quality.num_lines == 17
    assert [score.name for score in found.quality.scores] == ["wer"]


def test_run_again_it_trains_nothing_and_finds_the_same(tmp_path: Path) -> None:
    compared = replace(config(tmp_path), mixers=("ssru", "conv"))
    before = trained(compared)
    files = contents(tmp_path / "mixers")
    after = trained(compared)
    assert contents(tmp_path / "mixers") == files
    for one, other in zip(before, after, strict=True):
        assert one.quality is not None
        assert other.quality is not None
        assert replace(one, quality=None) == replace(other, quality=None)
        assert one.quality.scores == other.quality.scores


def test_what_diverges_is_said_and_the_others_go_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def diverge(run: TrainingRun, listener: Listener, progress: Progress) -> TrainingResult | None:
        result = train_from_text(run, listener, progress)
        if run.folder.name == "unscaled":
            raise TrainingError("gradients were not finite")
        return result

    monkeypatch.setattr(compare_training, "train_from_text", diverge)
    found = trained(replace(config(tmp_path), mixers=("attention",)))
    assert [(model.name, model.quality is None) for model in found] == [("attention", False), ("unscaled", True)]


# --- equal time -------------------------------------------------------------------------------------------------------


def elapsed(folder: Path) -> float:
    return float(read_json(folder / "metadata.json")["training"]["seconds"])


def test_time_is_spent_and_the_weights_are_those_of_the_end(tmp_path: Path) -> None:
    compared = replace(config(tmp_path, max_steps=None, minutes=1 / 60), mixers=("gru",))
    (found,) = trained(compared)
    folder = tmp_path / "mixers" / "gru"
    assert found.seconds is not None
    assert 1 <= found.seconds < 60
    record = read_json(folder / "metadata.json")["training"]
    assert record["is_finished"]
    validations = [record for record in metrics_without_times(folder) if record["type"] == "validation"]
    assert validations[-1]["step"] == found.steps == record["steps"]
    files = contents(folder)
    trained(compared)
    assert contents(folder) == files


def test_more_time_goes_on_and_less_does_nothing(tmp_path: Path) -> None:
    compared = replace(config(tmp_path, max_steps=None, minutes=0.5 / 60), mixers=("conv",))
    (short_run,) = trained(compared)
    assert compared.training is not None
    more = replace(compared, training=replace(compared.training, minutes=1.5 / 60))
    (long_run,) = trained(more)
    assert short_run.steps is not None
    assert long_run.steps is not None
    assert long_run.steps > short_run.steps
    assert elapsed(long_run.folder) >= 1.5
    files = contents(long_run.folder)
    trained(compared)
    assert contents(long_run.folder) == files


def test_what_an_interrupted_run_has_spent_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compared = replace(config(tmp_path, max_steps=None, minutes=2 / 60), mixers=("conv",))
    limits: list[float | None] = []

    def interrupt(run: TrainingRun, listener: Listener, progress: Progress) -> TrainingResult | None:
        limits.append(run.training.max_time)
        train_from_text(replace(run, training=replace(run.training, max_time=0.5 / 60)), listener, progress)
        raise Interrupted(2, "interrupted")

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(compare_training, "train_from_text", interrupt)
        trained(compared)
    spent = elapsed(tmp_path / "mixers" / "conv")

    def record(run: TrainingRun, listener: Listener, progress: Progress) -> TrainingResult | None:
        limits.append(run.training.max_time)
        return train_from_text(run, listener, progress)

    monkeypatch.setattr(compare_training, "train_from_text", record)
    (found,) = trained(compared)
    assert limits[0] == pytest.approx(2 / 60)
    assert limits[1] == pytest.approx((2 - spent) / 60, abs=0.1 / 60)
    assert limits[2] is None  # the last look, at the step that was reached
    assert found.seconds is not None
    assert found.seconds >= 2


@pytest.mark.parametrize(
    ("first", "then", "named"),
    [({"max_steps": 3}, {"minutes": 0.01}, "--max-steps"), ({"minutes": 0.01}, {"max_steps": 3}, "--minutes")],
)
def test_another_kind_of_budget_is_refused(
    first: dict[str, object], then: dict[str, object], named: str, tmp_path: Path
) -> None:
    def of(budget: dict[str, object], **values: object) -> CompareConfig:
        return replace(config(tmp_path, **{"max_steps": None, **budget, **values}), mixers=("conv",))

    trained(of(first))
    with pytest.raises(ConfigError, match=f"conv: was trained with {named}; go on with that, or start anew"):
        trained(of(then))
    assert trained(of(then, overwrite=True))[0].quality is not None


def test_a_timed_run_says_when_it_will_end() -> None:
    said: list[StepReport] = []

    class Listening(Silent):
        def on_step(self, report: StepReport) -> None:
            said.append(report)

    report = StepReport(
        step=50,
        max_steps=1_000_000,
        epoch=1.0,
        loss=1.0,
        perplexity=1.0,
        learning_rate=1.0,
        gradient_norm=1.0,
        tokens_per_second=1.0,
        num_target_tokens=100_000,
        num_skipped=0,
        elapsed_seconds=25.0,
        remaining_seconds=1e9,
    )
    compare_training._TimedListener(Listening(), 100.0).on_step(report)
    assert said == [replace(report, max_steps=200, remaining_seconds=75.0)]
