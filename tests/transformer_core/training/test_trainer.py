import json
import math
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.transformer_core.data.number_corpus import write_lines, write_numbers
from transformer_core import fp32_products
from transformer_core.config import ModelConfig, StackConfig
from transformer_core.data import shards
from transformer_core.data.batching import Batch
from transformer_core.data.masking import MaskingVocabulary
from transformer_core.data.shards import Corpus
from transformer_core.errors import Interrupted, ModelError, OutOfMemoryError, TrainingError
from transformer_core.layers.dropout import Dropout
from transformer_core.model import Transformer
from transformer_core.model_directory import expected_shapes
from transformer_core.training import objectives
from transformer_core.training.config import TrainingConfig
from transformer_core.training.learner import Update
from transformer_core.training.loss import LossSum
from transformer_core.training.objectives import Denoising, Masked, Objective, Translation, translation_loss
from transformer_core.training.progress import Silent, StepReport, ValidationReport
from transformer_core.training.trainer import Decoded, Trainer, TrainingTask
from transformer_core.weight_file import read_weights

VOCABULARY = 20
STACK = StackConfig(num_layers=1, d_model=8, num_heads=2, d_ff=8)
MODEL_CONFIG = ModelConfig(
    source_vocabulary_size=VOCABULARY,
    target_vocabulary_size=VOCABULARY,
    pad_id=0,
    bos_id=1,
    eos_id=2,
    encoder=STACK,
    decoder=STACK,
    dropout=0.2,
)
CONFIG = TrainingConfig(
    batch_size=30,
    optimizer="adamw",
    learning_rate=0.01,
    lr_schedule="cosine",
    warmup_steps=2,
    max_steps=12,
    valid_every=4,
    save_every=3,
    log_every=5,
    patience=0,
    average_last=2,
    precision="fp32",
    device="cpu",
)
TIMES = ("tokens_per_second", "elapsed_seconds", "remaining_seconds")

Decode = Callable[[Transformer, int], Decoded]
TRANSLATION = Translation()


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> tuple[Corpus, Corpus]:
    """Reversal of short strings of numbers, in several shards."""
    folder = tmp_path_factory.mktemp("corpora")
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(5, VOCABULARY, (1 + number % 6,), generator=generator).tolist() for number in range(40)]
    pairs = [(row, row[::-1]) for row in rows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_TOKENS", 50)
        return write_numbers(folder / "train", pairs[:32]), write_numbers(folder / "valid", pairs[32:])


class Listener(Silent):
    def __init__(self) -> None:
        self.steps: list[StepReport] = []
        self.validations: list[ValidationReport] = []

    def on_step(self, report: StepReport) -> None:
        self.steps.append(report)

    def on_validation(self, report: ValidationReport) -> None:
        self.validations.append(report)


def silent_decode(model: Transformer, step: int) -> Decoded:
    return Decoded(values={}, signatures={}, sample=("source", f"step {step}", "reference"))


class Builder:
    """Makes trainers of one run."""

    def __init__(self, corpora: tuple[Corpus, Corpus], folder: Path) -> None:
        self.corpora = corpora
        self.folder = folder
        self.listener = Listener()

    def __call__(
        self,
        *,
        dropout: float = 0.2,
        decode: Decode = silent_decode,
        objective: Objective = TRANSLATION,
        **values: Any,  # noqa: ANN401
    ) -> Trainer:
        self.folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(1)
        model = Transformer(replace(MODEL_CONFIG, dropout=dropout))
        task = TrainingTask(objective, *self.corpora, decode)
        return Trainer(model, task, replace(CONFIG, **values), self.folder, self.listener)

    def weights(self, name: str = "model.safetensors") -> bytes:
        return (self.folder / name).read_bytes()

    def records(self) -> list[dict[str, Any]]:
        """metrics.jsonl without what depends on the clock."""
        path = self.folder / "metrics.jsonl"
        lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
        return [{key: value for key, value in json.loads(line).items() if key not in TIMES} for line in lines]

    def steps(self) -> list[int]:
        return sorted(int(path.name[5:]) for path in (self.folder / "checkpoints").glob("step-*"))


@pytest.fixture
def build(corpora: tuple[Corpus, Corpus], tmp_path: Path) -> Builder:
    return Builder(corpora, tmp_path / "model")


def flat(model: Transformer) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


# --- Resuming


class Whole:
    """What an uninterrupted run leaves."""

    def __init__(self, build: Builder) -> None:
        build().run()
        self.weights = build.weights()
        self.last = build.weights("checkpoints/step-00000012/model.safetensors")
        self.optimizer = build.weights("checkpoints/step-00000012/optimizer.safetensors")
        self.records = build.records()
        self.steps = build.steps()


@pytest.fixture(scope="module")
def whole(corpora: tuple[Corpus, Corpus], tmp_path_factory: pytest.TempPathFactory) -> Whole:
    return Whole(Builder(corpora, tmp_path_factory.mktemp("whole")))


def require_same(build: Builder, whole: Whole) -> None:
    assert build.weights() == whole.weights
    assert build.weights("checkpoints/step-00000012/model.safetensors") == whole.last
    assert build.weights("checkpoints/step-00000012/optimizer.safetensors") == whole.optimizer
    assert build.records() == whole.records
    assert build.steps() == whole.steps == [6, 9, 12]


def interrupt_at(trainer: Trainer, step: int, number: int = signal.SIGTERM) -> None:
    """Send a signal while the update after `step` is computed."""
    update = trainer._update

    def interrupted_update(micro_batches: list[Batch]) -> None:
        if trainer.state.step == step:
            os.kill(os.getpid(), number)
        update(micro_batches)

    trainer._update = interrupted_update  # type: ignore[method-assign]


@pytest.mark.parametrize("step", range(12))
def test_a_run_that_was_interrupted_ends_as_one_that_was_not(build: Builder, whole: Whole, step: int) -> None:
    trainer = build()
    interrupt_at(trainer, step)
    with pytest.raises(Interrupted, match=f"interrupted at step {step + 1}; everything is saved") as caught:
        trainer.run()
    assert caught.value.signal_number == signal.SIGTERM
    assert step + 1 in build.steps()
    build().run()
    require_same(build, whole)


def test_interrupted_at_every_step(build: Builder, whole: Whole) -> None:
    for step in range(12):
        trainer = build()
        interrupt_at(trainer, step, signal.SIGINT)
        with pytest.raises(Interrupted):
            trainer.run()
    build().run()
    require_same(build, whole)


SHAPED: list[dict[str, Any]] = [
    {"ema_decay": 0.9},
    {"ema_decay": 0.9, "optimizer": "muon"},
    {"accumulate": 3, "batch_warmup_steps": 7},
    {"final_dropout": 0.0, "lr_schedule": "wsd"},
]


@pytest.mark.parametrize("values", SHAPED, ids=str)
def test_what_changes_along_the_way_is_the_same_in_a_resumed_run(build: Builder, values: dict[str, Any]) -> None:
    whole = Builder(build.corpora, build.folder.with_name("whole"))
    whole(**values).run()
    for step in (0, 3, 4, 8):
        trainer = build(**values)
        interrupt_at(trainer, step)
        with pytest.raises(Interrupted):
            trainer.run()
    build(**values).run()
    for name in ("model", "checkpoints/step-00000012/model", "checkpoints/step-00000012/optimizer"):
        assert build.weights(f"{name}.safetensors") == whole.weights(f"{name}.safetensors")
    assert build.records() == whole.records()


@pytest.mark.parametrize("looks_before", [0, 1, 2])
def test_a_validation_that_was_broken_off_is_done_when_the_run_goes_on(
    build: Builder, whole: Whole, looks_before: int
) -> None:
    looks: list[int] = []

    def decode(model: Transformer, step: int) -> Decoded:
        looks.append(step)
        if len(looks) == looks_before + 1:
            os.kill(os.getpid(), signal.SIGINT)
        return silent_decode(model, step)

    with pytest.raises(Interrupted, match=f"interrupted at step {4 * (looks_before + 1)};"):
        build(decode=decode).run()
    assert len([record for record in build.records() if record["type"] == "validation"]) == looks_before
    build().run()
    require_same(build, whole)


class Killed(BaseException):
    """The process is gone."""


@pytest.mark.parametrize("step", [2, 3, 4, 8, 11])
@pytest.mark.parametrize("place", ["before the report", "after the validation", "before the save", "after the save"])
def test_a_run_that_died_ends_as_one_that_did_not(
    build: Builder, whole: Whole, monkeypatch: pytest.MonkeyPatch, step: int, place: str
) -> None:
    name = {
        "before the report": "_report_step",
        "after the validation": "_validate_and_select",
        "before the save": "_save",
        "after the save": "_save",
    }[place]
    original = getattr(Trainer, name)

    def fatal(trainer: Trainer, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
        if place.startswith("after"):
            original(trainer, *arguments, **options)
        if trainer.state.step >= step:
            raise Killed
        if not place.startswith("after"):
            original(trainer, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, name, fatal)
        with pytest.raises(Killed):
            build().run()
    build().run()
    require_same(build, whole)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"batch": 10**6}, "no epoch has 1000000 batches; start with --overwrite"),
        ({"best_values": {}}, "the state has no loss; the checkpoint is damaged"),
        ({"best_values": {"bleu": 1.0}}, "the state has no loss; the checkpoint is damaged"),
        ({"epoch": 1 << 40}, "has done more than its 6 steps allow"),
        ({"validated_step": 7}, "has done more than its 6 steps allow"),
    ],
)
def test_a_state_that_cannot_be_ends_the_run_in_a_line(build: Builder, change: dict[str, Any], message: str) -> None:
    build(max_steps=6).run()
    path = build.folder / "checkpoints/step-00000006/state.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(ModelError, match=message):
        build().run()


def test_a_finished_run_that_is_run_again_changes_nothing(build: Builder, whole: Whole) -> None:
    build().run()
    result = build().run()
    assert result.is_finished
    assert result.reason == "all 12 steps are done"
    require_same(build, whole)


def test_time_ends_a_run_without_shaping_it(build: Builder, whole: Whole) -> None:
    num_runs, is_finished = 0, False
    while not is_finished:
        result = build(max_time=1e-6).run()  # 60 microseconds: one update, or one validation
        num_runs, is_finished = num_runs + 1, result.is_finished
        assert is_finished or result.reason.startswith("the time of 1e-06 minutes is up at step ")
    assert num_runs == 12
    require_same(build, whole)


# --- Pretraining

MASKING = MaskingVocabulary(size=VOCABULARY, pad_id=0, eos_id=2, mask_id=4, word_edges=None)


class PretrainingBuilder(Builder):
    """Makes trainers of a run on raw text: of an encoder or of a whole model."""

    def __init__(self, corpora: tuple[Corpus, Corpus], folder: Path, objective: Masked | Denoising) -> None:
        super().__init__(corpora, folder)
        self.objective = objective

    def __call__(self, **values: Any) -> Trainer:  # noqa: ANN401
        self.folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(1)
        stack = replace(STACK, num_layers=0) if isinstance(self.objective, Masked) else STACK
        model = Transformer(replace(MODEL_CONFIG, decoder=stack))
        task = TrainingTask(self.objective, *self.corpora, silent_decode)
        return Trainer(model, task, replace(CONFIG, **values), self.folder, self.listener)


@pytest.fixture(scope="module", params=["masked", "denoising"])
def pretrain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Builder]:
    """Gives builders of runs that differ in nothing but their folder."""
    folder = tmp_path_factory.mktemp("raw")
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(5, VOCABULARY, (1 + number % 6,), generator=generator).tolist() for number in range(40)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_TOKENS", 50)
        corpora = write_lines(folder / "train", rows[:32]), write_lines(folder / "valid", rows[32:])
    objective = Masked(MASKING) if request.param == "masked" else Denoising(MASKING)
    return lambda name: PretrainingBuilder(corpora, folder / name, objective)


def test_pretraining_that_was_interrupted_ends_as_one_that_was_not(pretrain: Callable[[str], Builder]) -> None:
    whole = pretrain("whole")
    whole(accumulate=2).run()
    for step in (1, 4, 7, 11):
        interrupted = pretrain(f"interrupted-{step}")
        trainer = interrupted(accumulate=2)
        interrupt_at(trainer, step)
        with pytest.raises(Interrupted):
            trainer.run()
        interrupted(accumulate=2).run()
        for name in ("model.safetensors", "checkpoints/step-00000012/optimizer.safetensors"):
            assert interrupted.weights(name) == whole.weights(name)
        assert interrupted.records() == whole.records()


def test_what_is_validated_is_the_same_every_time_and_in_every_run(pretrain: Callable[[str], Builder]) -> None:
    values = [pretrain(name)(seed=seed).validate()[0] for name, seed in (("v1", 1), ("v2", 1), ("v3", 2))]
    assert values[0] == values[1] == values[2]  # the weights are those of one seed; that of the run shapes training
    trainer = pretrain("v4")()
    assert trainer.validate()[0] == trainer.validate()[0] == values[0]
    assert set(values[0]) == {"loss", "perplexity", "accuracy"}
    assert 0 <= values[0]["accuracy"] <= 100


def test_every_update_is_corrupted_anew(pretrain: Callable[[str], Builder]) -> None:
    trainer = pretrain("anew")(batch_size=1000, max_steps=4, accumulate=1)
    seen: list[Batch] = []
    sum_gradients = trainer.learner.sum_gradients

    def noted(prepared: Sequence[Batch], num_tokens: int, step: int) -> tuple[Tensor, Tensor]:
        seen.extend(prepared)
        assert num_tokens == sum(batch.num_target_tokens for batch in prepared)
        return sum_gradients(prepared, num_tokens, step)

    trainer.learner.sum_gradients = noted  # type: ignore[method-assign]
    trainer.run()
    sources = {(batch.target_input.numpy().tobytes(), batch.source.numpy().tobytes()) for batch in seen}
    assert len(sources) == len(seen) - 1 == 5  # with the first one it is tried twice whether memory suffices


def test_the_best_accuracy_is_the_highest(pretrain: Callable[[str], Builder]) -> None:
    builder = pretrain("accuracy")
    result = builder(metric="accuracy", valid_every=1, average_last=0).run()
    values = [(report.values["accuracy"], -report.values["loss"]) for report in builder.listener.validations]
    assert len(values) == 12
    assert result.state.best_step == values.index(max(values)) + 1


# --- Updates


def test_micro_batches_that_are_accumulated_are_one_batch(build: Builder, corpora: tuple[Corpus, Corpus]) -> None:
    gradients, losses = [], []
    for name, batch_size, accumulate in (("one", 32, 1), ("halves", 16, 2), ("eighths", 4, 8)):
        folder = build.folder / name
        pairs = [([5 + n % 9] * (1 + n % 5), [6 + n % 7] * (1 + n % 3)) for n in range(32)]
        builder = Builder((write_numbers(folder / "corpus", pairs), corpora[1]), folder)
        trainer = builder(
            dropout=0.0, batch_size=batch_size, batch_type="sentences", accumulate=accumulate, max_steps=1
        )
        assert trainer.num_batches == accumulate  # so an update is an epoch
        trainer.run()
        # Adam's first mean is 0.1 times the first gradient. What it makes of it is no good to compare: where a gradient
        # is nothing but rounding (the bias of keys, which softmax does not see), it makes a whole step of that.
        gradients.append(
            torch.cat([mean.flatten() for name, mean in trainer.optimizer.state().items() if name.endswith("exp_avg")])
        )
        losses.append(builder.records()[0]["loss"])
    for gradient, loss in zip(gradients[1:], losses[1:], strict=True):
        torch.testing.assert_close(gradient, gradients[0], rtol=1e-4, atol=1e-7)
        assert loss == pytest.approx(losses[0], rel=1e-6)


def test_an_epoch_limit_ends_with_its_epoch(build: Builder) -> None:
    trainer = build(max_epochs=2, max_steps=1000, valid_every=1000)
    result = trainer.run()
    assert result.reason == "all 2 epochs are done"
    assert build.listener.steps[-1].learning_rate == pytest.approx(0.0, abs=1e-12)  # it fell until then, not later
    assert build.listener.steps[-1].max_steps == result.state.step
    assert result.state.step == 2 * trainer.num_batches
    assert (result.state.epoch, result.state.batch) == (2, 0)
    assert result.state.num_target_tokens == 2 * sum(
        batch.num_target_tokens for batch in trainer.batching.in_order(trainer.task.training)
    )


def test_epochs_whose_first_updates_have_fewer_micro_batches_are_whole(build: Builder) -> None:
    result = build(max_epochs=4, max_steps=1000, accumulate=4, batch_warmup_steps=7).run()
    assert result.reason == "all 4 epochs are done"
    assert build.listener.steps[-1].learning_rate == pytest.approx(0.0, abs=1e-12)


def test_the_last_micro_batches_of_an_epoch_are_an_update(build: Builder) -> None:
    trainer = build(max_epochs=3, max_steps=1000, accumulate=3)
    assert trainer.num_batches % 3  # so that some are left over
    assert trainer.run().state.step == 3 * math.ceil(trainer.num_batches / 3)


def test_the_first_updates_are_made_of_fewer_batches(build: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    trainer = build(batch_type="sentences", batch_size=1, accumulate=4, batch_warmup_steps=8, max_steps=8)
    assert trainer.num_batches >= 20  # the last update of an epoch may have fewer
    update = trainer.learner.update

    def counted_update(micro_batches: Sequence[Batch], step: int, learning_rate: float) -> Update:
        sizes.append(len(micro_batches))
        return update(micro_batches, step, learning_rate)

    monkeypatch.setattr(trainer.learner, "update", counted_update)
    trainer.run()
    # a quarter of the batches in each quarter of the eight updates: the share is rounded up
    assert sizes == [1, 1, 2, 2, 3, 3, 4, 4]


def test_dropout_goes_in_a_line_to_where_it_should_end(build: Builder) -> None:
    shares: list[float] = []
    trainer = build(dropout=0.4, final_dropout=0.1, max_steps=12, valid_every=100)
    update = trainer.learner.update

    def noted_update(micro_batches: Sequence[Batch], step: int, learning_rate: float) -> Update:
        found = {module.share for module in trainer.model.modules() if isinstance(module, Dropout)}
        shares.append(max(found))
        assert found == {0.0, max(found)}  # that inside the feed-forward is another option's
        return update(micro_batches, step, learning_rate)

    trainer.learner.update = noted_update  # type: ignore[method-assign]
    trainer.run()
    assert shares == pytest.approx([0.4 - 0.3 * step / 12 for step in range(12)])


def test_the_moving_average_is_what_is_validated_and_kept(build: Builder) -> None:
    trainer = build(ema_decay=0.5, valid_every=6, average_last=0, metric="bleu", decode=scripted([1.0, 2.0]))
    mean, validated = flat(trainer.model).clone(), []
    step, validate = trainer.optimizer.step, trainer.validate

    def followed_step(learning_rate: float, *, is_finite: Tensor) -> None:
        nonlocal mean
        step(learning_rate, is_finite=is_finite)
        number = len(validated_steps)
        decay = min(0.5, (1 + number) / (10 + number))
        mean = decay * mean + (1 - decay) * flat(trainer.model)
        validated_steps.append(number)

    def noted_validate() -> tuple[dict[str, float], Decoded]:
        validated.append(flat(trainer.model).clone())
        torch.testing.assert_close(validated[-1], mean)
        return validate()

    validated_steps: list[int] = []
    trainer.optimizer.step = followed_step  # type: ignore[method-assign]
    trainer.validate = noted_validate  # type: ignore[method-assign]
    trainer.run()
    assert len(validated) == 2
    kept = read_weights(build.folder / "model.safetensors", expected_shapes(trainer.model))
    last = read_weights(build.folder / "checkpoints/step-00000012/model.safetensors", expected_shapes(trainer.model))
    for name, weight in trainer.model.named_parameters():
        torch.testing.assert_close(last[name], weight.detach())  # it goes on from where the weights are
    assert any(not torch.equal(kept[name], last[name]) for name in kept)


def test_gradients_are_clipped(build: Builder, monkeypatch: pytest.MonkeyPatch) -> None:
    norms: list[float] = []
    trainer = build(clip_norm=0.01, max_steps=3)
    step = trainer.optimizer.step

    def measured_step(learning_rate: float, *, is_finite: Tensor) -> None:
        squares = sum(
            (parameter.grad**2).sum() for parameter in trainer.model.parameters() if parameter.grad is not None
        )
        norms.append(float(squares) ** 0.5)
        step(learning_rate, is_finite=is_finite)

    monkeypatch.setattr(trainer.optimizer, "step", measured_step)
    trainer.run()
    assert norms == pytest.approx([0.01] * 3, rel=1e-3)


def test_it_learns(build: Builder) -> None:
    result = build(max_steps=60, log_every=20).run()
    reports = build.listener.steps
    assert [report.step for report in reports] == [20, 40, 60]
    assert reports[-1].loss < reports[0].loss
    # no better than chance is the entropy of a choice among all entries
    assert reports[-1].perplexity < VOCABULARY
    assert all(report.tokens_per_second > 0 for report in reports)
    counts = [0, *(report.num_target_tokens for report in reports)]
    assert counts == sorted(set(counts))
    assert counts[-1] == result.state.num_target_tokens


# --- What is not finite


@pytest.fixture
def poisoned(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Trainer, set[int]], None]]:
    """Makes the gradients of some updates infinite."""

    def poison(trainer: Trainer, steps: set[int]) -> None:
        def loss(model: Transformer, batch: Batch, label_smoothing: float) -> LossSum:
            found = translation_loss(model, batch, label_smoothing)
            if model.training and trainer.state.step + 1 in steps:
                found.loss_sum = found.loss_sum * math.inf
            return found

        monkeypatch.setattr(objectives, "translation_loss", loss)

    yield poison


def test_an_update_with_infinite_gradients_is_left_out_and_counted(
    build: Builder, poisoned: Callable[[Trainer, set[int]], None]
) -> None:
    trainer = build(save_every=1, keep_last=20)
    poisoned(trainer, {1, 5, 6})
    result = trainer.run()
    assert (result.state.num_skipped, result.state.num_skipped_in_a_row) == (3, 0)
    assert torch.isfinite(flat(trainer.model)).all()
    same = [build.weights(f"checkpoints/step-{step:08d}/model.safetensors") for step in (4, 5, 6, 7)]
    assert same[0] == same[1] == same[2] != same[3]
    steps = [record for record in build.records() if record["type"] == "step"]
    assert [(record["step"], record["num_skipped"]) for record in steps] == [(5, 2), (10, 3), (12, 3)]
    assert steps[0]["gradient_norm"] is None
    log = (build.folder / "train.log").read_text()
    assert log.count("a gradient is not finite; this update is left out") == 3


def test_updates_that_are_counted_later_are_counted_the_same(
    build: Builder, poisoned: Callable[[Trainer, set[int]], None]
) -> None:
    at_once = build()
    poisoned(at_once, {1, 5, 6})
    at_once.run()
    later = Builder(build.corpora, build.folder.with_name("later"))
    trainer = later()
    poisoned(trainer, {1, 5, 6})
    trainer.device = torch.device("meta")  # as if it were dear to ask
    counted: list[int] = []
    settle = trainer._settle

    def noted() -> None:
        counted.append(len(trainer._unsettled))
        settle()

    trainer._settle = noted  # type: ignore[method-assign]
    trainer.run()
    assert max(counted) > 1
    assert later.weights() == build.weights()
    assert later.records() == build.records()
    assert [(later.folder / "train.log").read_text().count(f"step {step}: a gradient") for step in (1, 5, 6)] == [1] * 3


def test_fp16_learns_as_fp32_does(build: Builder) -> None:
    losses = {}
    for precision in ("fp32", "fp16"):
        builder = Builder(build.corpora, build.folder / precision)
        builder(precision=precision, max_steps=30, log_every=30, dropout=0.0).run()
        losses[precision] = builder.listener.steps[-1].loss
        assert builder.listener.steps[-1].num_skipped <= 2
    assert losses["fp16"] == pytest.approx(losses["fp32"], rel=0.01)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_fp32_is_multiplied_the_fast_way_in_updates_and_nowhere_else(
    build: Builder, monkeypatch: pytest.MonkeyPatch, precision: str
) -> None:
    monkeypatch.setattr(fp32_products, "_is_exact", lambda: True)
    inside = "medium" if precision == "fp32" else "highest"
    found: list[str] = []

    def noting_decode(model: Transformer, step: int) -> Decoded:
        assert torch.get_float32_matmul_precision() == "highest"  # rows of a search are few
        return silent_decode(model, step)

    trainer = build(precision=precision, decode=noting_decode, max_steps=2, valid_every=1)
    clip = trainer.learner.clip

    def noted_clip() -> Tensor:
        found.append(torch.get_float32_matmul_precision())
        return clip()

    monkeypatch.setattr(trainer.learner, "clip", noted_clip)
    trainer.run()
    assert found == [inside, inside]
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_run_whose_first_updates_were_left_out_can_be_resumed(
    build: Builder, poisoned: Callable[[Trainer, set[int]], None]
) -> None:
    whole = build()
    poisoned(whole, {1, 2})
    whole.run()
    interrupted = Builder(build.corpora, build.folder.with_name("interrupted"))
    trainer = interrupted()
    poisoned(trainer, {1, 2})
    interrupt_at(trainer, 1)
    with pytest.raises(Interrupted):
        trainer.run()
    trainer = interrupted()
    poisoned(trainer, {1, 2})
    trainer.run()
    assert interrupted.weights() == build.weights()


def test_ten_in_a_row_end_training_with_the_last_good_checkpoint(
    build: Builder, poisoned: Callable[[Trainer, set[int]], None]
) -> None:
    trainer = build(max_steps=40)
    poisoned(trainer, set(range(8, 40)))
    with pytest.raises(TrainingError, match=r"not finite in 10 updates in a row, at step 17 .* diverged") as caught:
        trainer.run()
    assert f"The last good checkpoint is {build.folder / 'checkpoints' / 'step-00000015'};" in str(caught.value)
    assert "\n" not in str(caught.value)
    weights = read_weights(build.folder / "checkpoints/step-00000015/model.safetensors", expected_shapes(trainer.model))
    assert all(torch.isfinite(weight).all() for weight in weights.values())


def test_ten_in_a_row_before_anything_was_saved(build: Builder, poisoned: Callable[[Trainer, set[int]], None]) -> None:
    trainer = build(save_every=30, valid_every=30, max_steps=40)
    poisoned(trainer, set(range(1, 40)))
    with pytest.raises(TrainingError, match="The last good checkpoint is none: it came too early"):
        trainer.run()


def test_memory_that_does_not_suffice_shows_in_the_first_second(
    build: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> LossSum:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 99 bytes")

    monkeypatch.setattr(objectives, "translation_loss", full)
    advice = r"the largest batch \(\d+ lines of up to \d tokens\) does not fit into memory; start anew \(--overwrite\)"
    with pytest.raises(OutOfMemoryError, match=advice):
        build().run()
    assert not (build.folder / "checkpoints").exists()


def test_the_first_second_takes_the_memory_of_the_optimizer_too(
    build: Builder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: torch.optim.Optimizer) -> None:
        raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")

    monkeypatch.setattr(torch.optim.AdamW, "step", full)
    with pytest.raises(OutOfMemoryError, match="does not fit"):
        build().run()


# --- Selection and stopping


def scripted(values: list[float], name: str = "bleu") -> Decode:
    remaining = iter(values)

    def decode(model: Transformer, step: int) -> Decoded:
        return Decoded(values={name: next(remaining)}, signatures={name: "made up"}, sample=None)

    return decode


@pytest.mark.parametrize(
    ("metric", "values", "best_step", "last_step"),
    [
        ("bleu", [1.0, 5.0, 4.0, 3.0, 9.0, 9.0], 2, 4),  # two looks without a better one end it
        ("exact", [1.0, 5.0, 5.0, 6.0, 1.0, 2.0, 9.0], 4, 6),
        ("wer", [50.0, 60.0, 40.0, 41.0, 40.5, 0.0], 3, 5),
        ("cer", [math.nan, 60.0, math.nan, 70.0, 0.0], 2, 4),
    ],
)
def test_patience_ends_training_and_the_best_weights_are_kept(
    build: Builder, metric: str, values: list[float], best_step: int, last_step: int
) -> None:
    trainer = build(
        metric=metric,
        decode=scripted(values, metric),
        patience=2,
        valid_every=1,
        save_every=1,
        keep_last=20,
        average_last=0,
    )
    result = trainer.run()
    assert result.is_finished
    assert result.reason == f"{metric} has not become better for 2 validations"
    assert (result.state.step, result.state.best_step) == (last_step, best_step)
    assert result.state.best_values[metric] == values[best_step - 1]
    assert build.weights() == build.weights(f"checkpoints/step-{best_step:08d}/model.safetensors")
    state = json.loads((build.folder / f"checkpoints/step-{last_step:08d}/state.json").read_text())
    assert state["num_worse"] == 2


def test_patience_waits_while_the_rate_stays_up(build: Builder) -> None:
    values = [9.0 - step for step in range(9)]  # from the first on nothing is better
    trainer = build(
        metric="bleu",
        decode=scripted(values),
        lr_schedule="wsd",
        warmup_steps=0,
        max_steps=9,
        patience=1,
        valid_every=1,
        average_last=0,
    )
    assert trainer.run().state.step == 7  # four fifths of nine updates have the peak


def test_a_run_that_stopped_between_two_saves_is_saved(build: Builder) -> None:
    trainer = build(
        metric="bleu", decode=scripted([2.0, 1.0]), patience=1, valid_every=2, save_every=100, average_last=0
    )
    assert trainer.run().state.step == 4
    assert build.steps() == [4]


def test_the_mean_of_the_last_snapshots_is_kept_if_it_is_better(build: Builder) -> None:
    trainer = build(metric="bleu", decode=scripted([1.0, 2.0, 3.0, 3.5]), average_last=2)
    result = trainer.run()
    values = [report.values["bleu"] for report in build.listener.validations]
    assert values == [1.0, 2.0, 3.0]  # that of the mean is no validation of a step
    assert (result.state.averaged, result.state.best_step) == ([8, 12], 0)
    assert result.state.best_values["bleu"] == 3.5
    shapes = expected_shapes(trainer.model)
    snapshots = [
        read_weights(build.folder / f"checkpoints/snapshots/step-{step:08d}.safetensors", shapes) for step in (8, 12)
    ]
    for name, weight in read_weights(build.folder / "model.safetensors", shapes).items():
        torch.testing.assert_close(weight, (snapshots[0][name] + snapshots[1][name]) / 2)
    assert (
        "mean of the last 2 snapshots: bleu 3.5000, better than 3.0000 of step 12"
        in (build.folder / "train.log").read_text()
    )
    result = build(metric="bleu", decode=scripted([]), average_last=2).run()  # again: nothing is left to try
    assert result.state.averaged == [8, 12]


def test_validation_is_without_dropout_and_as_often_as_asked(build: Builder) -> None:
    trainer = build()
    one, other = trainer.validate()[0], trainer.validate()[0]
    assert one == other
    assert trainer.model.training
    assert one["perplexity"] == pytest.approx(math.exp(one["loss"]))
    trainer.run()
    assert [record["step"] for record in build.records() if record["type"] == "validation"] == [4, 8, 12]


def test_the_validation_loss_is_the_mean_over_all_tokens(build: Builder) -> None:
    trainer = build()
    trainer.model.eval()
    batches = list(trainer.batching.in_order(trainer.task.validation))
    with torch.no_grad():
        losses = [translation_loss(trainer.model, batch, 0.0) for batch in batches]
    expected = sum(loss.nll_sum.item() for loss in losses) / sum(loss.num_tokens for loss in losses)
    assert trainer.validate()[0]["loss"] == pytest.approx(expected)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_in_half_precision_a_resumed_run_is_the_same(build: Builder, precision: str) -> None:
    build(precision=precision).run()
    interrupted = Builder(build.corpora, build.folder.with_name("interrupted"))
    trainer = interrupted(precision=precision)
    interrupt_at(trainer, 6)
    with pytest.raises(Interrupted):
        trainer.run()
    interrupted(precision=precision).run()
    assert interrupted.weights() == build.weights()
    assert interrupted.records() == build.records()
