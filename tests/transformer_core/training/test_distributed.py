"""Several processes that train one model: they equal one, agree on everything, and none waits for one that is gone."""

import os
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.job import run_job
from tests.training_task import metrics_without_times
from tests.transformer_core.data.number_corpus import write_lines, write_numbers
from tests.transformer_core.training.test_trainer import (
    CONFIG,
    MASKING,
    MODEL_CONFIG,
    STACK,
    VOCABULARY,
    silent_decode,
)
from transformer_core.data import shards
from transformer_core.data.batching import Batch
from transformer_core.data.shards import Corpus
from transformer_core.errors import ConfigError, Interrupted
from transformer_core.model import Transformer
from transformer_core.training import distributed, optimizer
from transformer_core.training.adaptation import adapt_model
from transformer_core.training.adaptation_config import AdaptationConfig
from transformer_core.training.distributed import ALONE, Job, joined, this_job
from transformer_core.training.objectives import Denoising, Masked, Objective, Translation
from transformer_core.training.progress import Silent
from transformer_core.training.trainer import Trainer, TrainingResult, TrainingTask
from transformer_core.weight_file import read_weights

CPU = torch.device("cpu")
CRASH = f"signal {int(signal.SIGSEGV)}"
OBJECTIVES: dict[str, Objective] = {
    "translation": Translation(),
    "r-drop": Translation(consistency=1.0),
    "masked": Masked(MASKING),
    "denoising": Denoising(MASKING),
}


@pytest.fixture(scope="module")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Corpus, Corpus]]:
    """Strings of numbers and their reversals, and the strings as raw text; 11 batches an epoch, in several shards."""
    folder = tmp_path_factory.mktemp("corpora")
    generator = torch.Generator().manual_seed(0)
    rows = [torch.randint(5, VOCABULARY, (1 + number % 6,), generator=generator).tolist() for number in range(60)]
    pairs = [(row, row[::-1]) for row in rows]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_TOKENS", 80)
        numbers = write_numbers(folder / "train", pairs[:50]), write_numbers(folder / "valid", pairs[50:])
        raw = write_lines(folder / "raw", rows[:50]), write_lines(folder / "raw-valid", rows[50:])
    return {"translation": numbers, "r-drop": numbers, "masked": raw, "denoising": raw}


@pytest.fixture(autouse=True)
def _no_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    """The biases of keys have no gradient but rounding, out of which Adam's division makes whole steps."""
    monkeypatch.setattr(optimizer, "EPSILON", 1e-3)


class Run:
    """Trains in a folder, in a job or alone."""

    def __init__(self, corpora: dict[str, tuple[Corpus, Corpus]], folder: Path, objective: str = "translation") -> None:
        self.corpora = corpora[objective]
        self.objective = OBJECTIVES[objective]
        self.folder = folder
        self.is_encoder_only = objective == "masked"
        self.adaptation = AdaptationConfig()
        folder.mkdir(parents=True, exist_ok=True)

    def trainer(self, job: Job = ALONE, **values: Any) -> Trainer:  # noqa: ANN401
        torch.manual_seed(1)
        decoder = replace(STACK, num_layers=0) if self.is_encoder_only else STACK
        model = Transformer(replace(MODEL_CONFIG, decoder=decoder))
        adapt_model(model, self.adaptation, (), seed=1)
        task = TrainingTask(self.objective, *self.corpora, silent_decode)
        return Trainer(model, task, replace(CONFIG, **values), self.folder, Silent(), job)

    def alone(self, **values: Any) -> TrainingResult:  # noqa: ANN401
        return self.trainer(**values).run()

    def job(
        self,
        tmp_path: Path,
        world_size: int = 2,
        change: Callable[[Trainer, Job], object] = lambda trainer, job: None,
        **values: Any,  # noqa: ANN401
    ) -> list[str]:
        """Train in a job; `change` does something to the trainer of each process first.

        torch 2.13 has crashed here once, while gloo gathered split tensors. Then the job goes on where it stopped, as
        torchrun would have it do, and has to come to the same result.
        """

        def work() -> None:
            job = this_job()
            with joined(job, CPU):
                trainer = self.trainer(job, **values)
                change(trainer, job)
                trainer.run()

        outcomes = run_job(tmp_path, work, world_size)
        return run_job(tmp_path, work, world_size) if CRASH in outcomes else outcomes

    def tensors(self, name: str) -> dict[str, torch.Tensor]:
        path = self.folder / name
        shapes = {key: tuple(value.shape) for key, value in load(path).items()}
        return read_weights(path, shapes)

    def files(self) -> list[str]:
        return sorted(str(path.relative_to(self.folder)) for path in self.folder.rglob("*") if path.is_file())


def load(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


def require_same(run: Run, whole: Run) -> None:
    """Hold all that a run left against that of another; up to rounding."""
    assert run.files() == whole.files()
    for name in [name for name in run.files() if name.endswith(".safetensors")]:
        tensors, expected = run.tensors(name), whole.tensors(name)
        assert tensors.keys() == expected.keys()
        for key, tensor in tensors.items():
            torch.testing.assert_close(tensor, expected[key], rtol=1e-4, atol=1e-6, msg=f"{name}: {key}")
    records, expected_records = metrics_without_times(run.folder), metrics_without_times(whole.folder)
    assert len(records) == len(expected_records)
    for record, expected_record in zip(records, expected_records, strict=True):
        numbers = {key: value for key, value in record.items() if isinstance(value, float)}
        assert numbers == pytest.approx({key: expected_record[key] for key in numbers}, rel=1e-4)
        assert record["step"] == expected_record["step"]


# --- Who we are


def test_without_variables_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "LOCAL_RANK", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    assert this_job() == ALONE
    assert ALONE.is_alone and ALONE.is_first
    assert (ALONE.sum(2, 3.5), ALONE.largest(1), ALONE.share("x"), ALONE.agree(None, True)) == (
        [2, 3.5],
        [1],
        "x",
        (None, True),
    )


def test_torchrun_says_which_process_this_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (("RANK", "5"), ("LOCAL_RANK", "1"), ("WORLD_SIZE", "8")):
        monkeypatch.setenv(name, value)
    job = this_job()
    assert (job.rank, job.local_rank, job.world_size, job.is_first, job.is_alone) == (5, 1, 8, False, False)
    assert job.name == "rank 5 of 8"
    assert not job.is_restarted
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
    assert this_job() == replace(job, is_restarted=True)
    assert job.device_name("cpu") == "cpu"
    assert job.device_name("cuda") == "cuda:1"
    assert job.device_name("cuda:3") == "cuda:3"
    with pytest.raises(ConfigError, match="several processes train on cpu or cuda, not on mps"):
        job.device_name("mps")


@pytest.mark.parametrize(("rank", "world_size"), [("2", "2"), ("-1", "2"), ("x", "2"), ("0", "")])
def test_variables_that_make_no_sense_are_named(monkeypatch: pytest.MonkeyPatch, rank: str, world_size: str) -> None:
    monkeypatch.setenv("RANK", rank)
    monkeypatch.setenv("WORLD_SIZE", world_size)
    with pytest.raises(ConfigError, match=f"RANK={rank}.* in the environment name no process of a job"):
        this_job()


def test_a_job_without_a_meeting_place_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    with (
        pytest.raises(ConfigError, match=r"there is no meeting place .*MASTER_ADDR.*torchrun"),
        joined(Job(rank=1, world_size=2), CPU),
    ):
        pass


# --- Several processes are as good as one


@pytest.mark.parametrize("fsdp", [False, True], ids=["ddp", "fsdp"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_two_processes_equal_one_that_has_the_same_batches(
    corpora: dict[str, tuple[Corpus, Corpus]], tmp_path: Path, objective: str, fsdp: bool
) -> None:
    whole, run = Run(corpora, tmp_path / "one", objective), Run(corpora, tmp_path / "two", objective)
    whole.alone(accumulate=2)
    assert run.job(tmp_path, fsdp=fsdp) == ["", ""]
    require_same(run, whole)


@pytest.mark.parametrize(("world_size", "accumulate", "fsdp"), [(3, 1, False), (2, 2, False), (2, 2, True)])
def test_more_processes_and_accumulation_equal_one(
    corpora: dict[str, tuple[Corpus, Corpus]], tmp_path: Path, world_size: int, accumulate: int, fsdp: bool
) -> None:
    """Of 11 batches, three are left for the last update of an epoch: one less falls to the second process of two."""
    whole, run = Run(corpora, tmp_path / "one"), Run(corpora, tmp_path / "several")
    whole.alone(accumulate=world_size * accumulate)
    assert run.job(tmp_path, world_size, accumulate=accumulate, fsdp=fsdp) == [""] * world_size
    require_same(run, whole)


@pytest.mark.parametrize(
    ("fsdp", "adaptation"),
    [
        (False, AdaptationConfig(freeze=("encoder",))),
        (True, AdaptationConfig(freeze=("encoder",))),
        (False, AdaptationConfig(lora_rank=2)),
    ],
)
def test_two_processes_adapt_as_one(
    corpora: dict[str, tuple[Corpus, Corpus]], tmp_path: Path, fsdp: bool, adaptation: AdaptationConfig
) -> None:
    whole, run = Run(corpora, tmp_path / "one"), Run(corpora, tmp_path / "two")
    whole.adaptation = run.adaptation = adaptation
    whole.alone(accumulate=2)
    assert run.job(tmp_path, max_time=1e-6, fsdp=fsdp) == ["", ""]
    assert run.job(tmp_path, fsdp=fsdp) == ["", ""]
    require_same(run, whole)


def test_muon_works_on_split_weights(corpora: dict[str, tuple[Corpus, Corpus]], tmp_path: Path) -> None:
    whole, run = Run(corpora, tmp_path / "one"), Run(corpora, tmp_path / "two")
    whole.alone(accumulate=2, optimizer="muon")
    assert run.job(tmp_path, fsdp=True, optimizer="muon") == ["", ""]
    require_same(run, whole)


@pytest.mark.parametrize("fsdp", [False, True], ids=["ddp", "fsdp"])
def test_two_processes_have_one_moving_average(
    corpora: dict[str, tuple[Corpus, Corpus]], tmp_path: Path, fsdp: bool
) -> None:
    whole, run = Run(corpora, tmp_path / "one"), Run(corpora, tmp_path / "two")
    whole.alone(accumulate=2, ema_decay=0.9, batch_warmup_steps=4)
    assert run.job(tmp_path, max_time=1e-6, fsdp=fsdp, ema_decay=0.9, batch_warmup_steps=4) == ["", ""]
    assert run.job(tmp_path, fsdp=fsdp, ema_decay=0.9, batch_warmup_steps=4) == ["", ""]
    require_same(run, whole)


def test_the_gradients_are_those_of_all_tokens(corpora: dict[str, tuple[Corpus, Corpus]], tmp_path: Path) -> None:
    """Batches of 1 and of 4 pairs: a mean of means would be another number."""
    numbers = corpora["translation"][0].shard(0)

    def batch(trainer: Trainer, indices: list[int]) -> Batch:
        return trainer.batching._collate(numbers, torch.tensor(indices).numpy())

    def work() -> None:
        job = this_job()
        with joined(job, CPU):
            trainer = run.trainer(job)
            own = batch(trainer, [0] if job.is_first else [2, 3, 4, 5])
            num_tokens = int(job.sum(own.num_target_tokens)[0])
            loss_sums, _ = trainer.learner.sum_gradients([own], num_tokens, 0)
            (loss_sum,) = job.sum(loss_sums.sum().item())
            alone = run.trainer()
            both = [batch(alone, [0]), batch(alone, [2, 3, 4, 5])]
            assert num_tokens == sum(each.num_target_tokens for each in both)
            expected_sums, _ = alone.learner.sum_gradients(both, num_tokens, 0)
            assert loss_sum == pytest.approx(expected_sums.sum().item(), rel=1e-6)
            for weight, expected in zip(trainer.model.parameters(), alone.model.parameters(), strict=True):
                torch.testing.assert_close(weight.grad, expected.grad)

    run = Run(corpora, tmp_path / "run")
    assert run_job(tmp_path, work) == ["", ""]


# --- A run may go on with more or with fewer processes


@pytest.mark.parametrize("fsdp", [False, True], ids=["ddp", "fsdp"])
@pytest.mark.parametrize("begins_alone", [False, True], ids=["two-began", "one-began"])
def test_others_go_on_with_what_some_began(
    corpora: dict[str, tuple[Corpus, Corpus]], tmp_path: Path, begins_alone: bool, fsdp: bool
) -> None:
    whole, run = Run(corpora, tmp_path / "whole"), Run(corpora, tmp_path / "run")
    whole.alone(accumulate=2)
    if begins_alone:
        assert not run.alone(accumulate=2, max_time=1e-6).is_finished
        assert run.job(tmp_path, accumulate=2, fsdp=fsdp) == ["", ""]
    else:
        assert run.job(tmp_path, max_time=1e-6, fsdp=fsdp) == ["", ""]
        trainer = run.trainer(max_epochs=2)  # known before it goes on: as many updates as two would make
        assert trainer.checkpoints.latest() == run.folder / "checkpoints" / "step-00000001"
        assert trainer.max_steps == whole.trainer(max_epochs=2, accumulate=2).max_steps
        run.alone()
    require_same(run, whole)


def test_a_process_without_work_takes_part(corpora: dict[str, tuple[Corpus, Corpus]], tmp_path: Path) -> None:
    """One began with one micro-batch an update; of three that go on two have nothing to compute."""
    whole, run = Run(corpora, tmp_path / "whole"), Run(corpora, tmp_path / "run")
    whole.alone()
    run.alone(max_time=1e-6)
    assert run.job(tmp_path, 3) == ["", "", ""]
    require_same(run, whole)


# --- They agree


@pytest.mark.parametrize("rank", [0, 1])
def test_a_signal_to_any_process_stops_all_after_everything_is_saved(
    corpora: dict[str, tuple[Corpus, Corpus]], tmp_path: Path, rank: int
) -> None:
    def interrupt(trainer: Trainer, job: Job) -> None:
        update = trainer._update

        def interrupted(micro_batches: list[Batch]) -> None:
            if job.rank == rank and trainer.state.step == 4:
                os.kill(os.getpid(), signal.SIGTERM)
            update(micro_batches)

        trainer._update = interrupted  # type: ignore[method-assign]
        save, train = trainer._save, trainer.run

        def slowly_saved(*, is_extra: bool) -> None:
            if job.is_first and is_extra:
                os.kill(os.getpid(), signal.SIGTERM)  # as torchrun repeats it
                time.sleep(0.5)
            save(is_extra=is_extra)

        def checked() -> TrainingResult:
            try:
                return train()
            except Interrupted:  # torchrun would end the first process as soon as another ends
                assert (trainer.checkpoints.folder / "LATEST").exists()
                raise

        trainer._save, trainer.run = slowly_saved, checked  # type: ignore[method-assign]

    whole, run = Run(corpora, tmp_path / "whole"), Run(corpora, tmp_path / "run")
    said = "Interrupted: interrupted at step 5; everything is saved, the same command goes on from there"
    assert run.job(tmp_path, change=interrupt) == [said, said]
    assert run.job(tmp_path) == ["", ""]
    whole.alone(accumulate=2)
    require_same(run, whole)


def test_patience_ends_all(corpora: dict[str, tuple[Corpus, Corpus]], tmp_path: Path) -> None:
    run = Run(corpora, tmp_path / "run")
    # a rate this high makes every look worse than the first; only the first process looks
    assert run.job(tmp_path, learning_rate=5.0, patience=1, valid_every=1, max_steps=50) == ["", ""]
    looks = [record for record in metrics_without_times(run.folder) if record["type"] == "validation"]
    assert looks[-1]["num_worse"] == 1
    assert looks[-1]["step"] < 50


def test_a_gradient_that_is_not_finite_anywhere_is_left_out_everywhere(
    corpora: dict[str, tuple[Corpus, Corpus]], tmp_path: Path
) -> None:
    def spoil(trainer: Trainer, job: Job) -> None:
        sum_gradients = trainer.learner.sum_gradients

        def spoiled(prepared: Sequence[Batch], num_tokens: int, step: int) -> tuple[Tensor, Tensor]:
            if job.rank == 1 and step == 4:
                num_tokens = 0  # which is divided by
            return sum_gradients(prepared, num_tokens, step)

        trainer.learner.sum_gradients = spoiled  # type: ignore[method-assign]

    run = Run(corpora, tmp_path / "run")
    assert run.job(tmp_path, change=spoil) == ["", ""]
    assert metrics_without_times(run.folder)[-2]["num_skipped"] == 1
    assert (run.folder / "train.log").read_text().count("this update is left out") == 1


def test_processes_that_see_different_folders_are_told(
    corpora: dict[str, tuple[Corpus, Corpus]], tmp_path: Path
) -> None:
    run, other = Run(corpora, tmp_path / "run"), Run(corpora, tmp_path / "other")
    run.alone(accumulate=2, max_time=1e-6)

    def work() -> None:
        job = this_job()
        with joined(job, CPU):
            (run if job.is_first else other).trainer(job).run()

    outcomes = run_job(tmp_path, work)
    assert "goes on from step 1 and this one from 0; all machines of a job must share the folder" in outcomes[1]
    assert outcomes[0].startswith("TrainingError: another process of the job has ended (")


# --- None waits for one that is gone


@pytest.mark.parametrize(
    ("place", "fsdp"),
    [
        ("_update", False),
        ("learner.sum_gradients", False),
        ("learner.clip", False),
        ("_report_step", False),
        ("learner.sum_gradients", True),
    ],
)
@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_raises_ends_all(
    corpora: dict[str, tuple[Corpus, Corpus]], tmp_path: Path, rank: int, place: str, fsdp: bool
) -> None:
    def fail(trainer: Trainer, job: Job) -> None:
        owner = trainer.learner if place.startswith("learner.") else trainer
        name = place.removeprefix("learner.")
        original = getattr(owner, name)

        def failing(*arguments: object) -> object:
            if job.rank == rank and trainer.state.step >= 4:
                raise OSError("the disk is gone")
            return original(*arguments)

        setattr(owner, name, failing)

    run = Run(corpora, tmp_path / "run")
    outcomes = run.job(tmp_path, change=fail, fsdp=fsdp)
    assert outcomes[rank] == "OSError: the disk is gone"
    lost = outcomes[1 - rank]
    assert lost.startswith("TrainingError: another process of the job has ended (")
    assert lost.endswith("); the same command goes on from the last checkpoint")
    assert "\n" not in lost and len(lost) < 200
    assert run.job(tmp_path) == ["", ""]


@pytest.mark.parametrize("rank", [0, 1])
def test_a_process_that_is_killed_ends_all_and_they_go_on_from_the_last_checkpoint(
    corpora: dict[str, tuple[Corpus, Corpus]], tmp_path: Path, rank: int
) -> None:
    def die(trainer: Trainer, job: Job) -> None:
        owner, name = (trainer, "_validate_and_select") if job.is_first else (trainer.learner, "clip")
        original = getattr(owner, name)

        def dying(*arguments: Any) -> object:  # noqa: ANN401
            if job.rank == rank and trainer.state.step >= 6:
                os.kill(os.getpid(), signal.SIGKILL)
            return original(*arguments)

        setattr(owner, name, dying)

    whole, run = Run(corpora, tmp_path / "whole"), Run(corpora, tmp_path / "run")
    outcomes = run.job(tmp_path, change=die)
    assert outcomes[rank] == "signal 9"
    assert outcomes[1 - rank].startswith("TrainingError: another process of the job has ended (")
    assert run.job(tmp_path) == ["", ""]
    whole.alone(accumulate=2)
    require_same(run, whole)


def test_the_others_wait_for_the_first(tmp_path: Path) -> None:
    def work() -> None:
        job = this_job()
        with joined(job, CPU), job.first_before_others():
            if job.is_first:
                (tmp_path / "made").touch()
            assert (tmp_path / "made").exists()

    assert run_job(tmp_path, work, 3) == ["", "", ""]


def test_a_failure_of_the_first_ends_those_that_wait(tmp_path: Path) -> None:
    def work() -> None:
        job = this_job()
        with joined(job, CPU), job.first_before_others():
            assert job.is_first, "the others never come here"
            raise ConfigError("no such vocabulary")

    outcomes = run_job(tmp_path, work)
    assert outcomes[0] == "ConfigError: no such vocabulary"
    assert outcomes[1].startswith("TrainingError: another process of the job has ended (")


def test_a_fault_of_our_own_is_not_taken_for_a_loss(tmp_path: Path) -> None:
    def work() -> None:
        job = this_job()
        with joined(job, CPU):
            (tmp_path / f"joined-{job.rank}").touch()
            while not (tmp_path / f"joined-{1 - job.rank}").exists():  # else it sees this one's end while it connects
                time.sleep(0.001)
            raise RuntimeError("shapes do not fit")

    assert run_job(tmp_path, work) == ["RuntimeError: shapes do not fit"] * 2


def test_the_patience_is_longer_than_any_validation() -> None:
    assert distributed.PATIENCE.total_seconds() >= 24 * 3600
