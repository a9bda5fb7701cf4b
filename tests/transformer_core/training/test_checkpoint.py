import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.transformer_core.decoding.random_model import random_model
from transformer_core.errors import ModelError
from transformer_core.model import Transformer
from transformer_core.training import checkpoint as checkpoint_module
from transformer_core.training.checkpoint import Checkpoints, TrainingState
from transformer_core.training.config import TrainingConfig
from transformer_core.training.optimizer import ModelOptimizer

CONFIG = TrainingConfig(optimizer="adamw", learning_rate=0.01)


class Run:
    """A model whose weights tell the step: all of them are its number."""

    def __init__(self, folder: Path, keep_last: int = 2) -> None:
        self.model: Transformer = random_model(12)
        self.optimizer = ModelOptimizer(self.model, CONFIG)
        self.checkpoints = Checkpoints(folder, keep_last)
        self.state = TrainingState()

    def advance(self, step: int) -> None:
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.grad = torch.ones_like(parameter)
        self.optimizer.step(0.01, is_finite=torch.tensor(True))
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.fill_(step)
        self.state.step = step

    def save(self, step: int, *, is_extra: bool = False) -> None:
        self.advance(step)
        self.state.is_extra = is_extra
        self.checkpoints.save(self.model, self.optimizer, self.state)

    def load(self) -> TrainingState | None:
        return self.checkpoints.load(self.model, self.optimizer)

    def weight(self) -> float:
        """The number that all weights are."""
        (number,) = {value for parameter in self.model.parameters() for value in parameter.flatten().tolist()}
        return float(number)


def kept(folder: Path) -> list[int]:
    return sorted(int(path.name[5:]) for path in (folder / "checkpoints").glob("step-*"))


def test_what_was_saved_comes_back(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.state = TrainingState(
        epoch=3,
        batch=7,
        validated_step=20,
        best_values={"loss": 2.5, "bleu": 1.0},
        best_step=10,
        averaged=[5, 10],
        num_worse=1,
        num_skipped=2,
        num_target_tokens=12345,
        elapsed_seconds=1.5,
        window_loss_sum=0.1 + 0.2,
        window_tokens=99,
        metrics_bytes=100,
        log_bytes=200,
    )
    run.save(20)
    other = Run(tmp_path)
    assert other.load() == run.state
    assert other.weight() == 20
    for name, tensor in run.optimizer.state().items():
        assert torch.equal(other.optimizer.state()[name], tensor)


def test_before_the_first_there_is_none(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert run.load() is None
    assert run.checkpoints.latest() is None


def test_the_last_ones_are_kept_and_extra_ones_do_not_count(tmp_path: Path) -> None:
    run = Run(tmp_path, keep_last=2)
    for step in (10, 20, 30):
        run.save(step)
    assert kept(tmp_path) == [20, 30]
    run.save(35, is_extra=True)
    assert kept(tmp_path) == [20, 30, 35]
    run.save(37, is_extra=True)
    assert kept(tmp_path) == [20, 30, 37]
    run.save(40)
    assert kept(tmp_path) == [30, 40]
    assert run.checkpoints.latest() == tmp_path / "checkpoints" / "step-00000040"


def test_saving_a_step_again_renews_its_state(tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.save(10, is_extra=True)
    before = (tmp_path / "checkpoints/step-00000010/model.safetensors").stat().st_mtime_ns
    run.state.num_worse, run.state.is_extra = 4, False
    run.checkpoints.save(run.model, run.optimizer, run.state)
    state = Run(tmp_path).load()
    assert state is not None
    assert (state.num_worse, state.is_extra) == (4, False)
    assert (tmp_path / "checkpoints/step-00000010/model.safetensors").stat().st_mtime_ns == before


def test_snapshots_are_kept_while_the_state_names_them(tmp_path: Path) -> None:
    run = Run(tmp_path)
    for step in (10, 20, 30):
        run.advance(step)
        run.checkpoints.save_snapshot(run.model, step)
        run.state.snapshots = [*run.state.snapshots, step][-2:]
        # until the next save a resumed run may need them all
        assert run.checkpoints.snapshot_path(step).exists()
        run.save(step)
    assert {path.stem for path in (tmp_path / "checkpoints/snapshots").iterdir()} == {"step-00000020", "step-00000030"}


def test_the_same_state_gives_the_same_bytes(tmp_path: Path) -> None:
    folders = [tmp_path / "one", tmp_path / "other"]
    for folder in folders:
        Run(folder).save(10)
    for name in ("model.safetensors", "optimizer.safetensors", "state.json"):
        one, other = (folder / "checkpoints/step-00000010" / name for folder in folders)
        assert one.read_bytes() == other.read_bytes()


class Killed(BaseException):
    """The process is gone: what it did is done, what it would have done is not."""


@contextmanager
def killed_at(place: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Kill at the action of this number, and let nothing happen after it; gives the names of the actions."""
    done: list[str] = []

    def mortal(name: str, action: Callable[..., object], half: Callable[..., object]) -> Callable[..., object]:
        def act(*arguments: Any, **options: Any) -> object:  # noqa: ANN401 - whatever the action takes
            if len(done) >= place:
                raise Killed
            done.append(name)
            if len(done) == place:
                half(*arguments)
                raise Killed
            return action(*arguments, **options)

        return act

    def half_write(path: Path, *_: object) -> None:
        path.with_name(f".{path.name}.abcdefgh.tmp").write_bytes(b"half")

    def half_remove(path: Path, *_: object) -> None:
        for file in sorted(path.glob("*"), reverse=True)[:1]:  # state.json first
            file.unlink()

    with monkeypatch.context() as patch:
        for name in ("write_weights", "write_json", "write_text"):
            patch.setattr(checkpoint_module, name, mortal(name, getattr(checkpoint_module, name), half_write))
        patch.setattr(shutil, "rmtree", mortal("rmtree", shutil.rmtree, half_remove))
        for name in ("rename", "mkdir", "unlink"):
            patch.setattr(Path, name, mortal(name, getattr(Path, name), lambda *_: None))
        yield done


def test_a_kill_at_any_instant_leaves_a_checkpoint_to_go_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Save two steps, the first removing a regular checkpoint and the second an extra one; die at every action."""
    monkeypatch.setattr("os.fsync", lambda descriptor: None)  # a kill is no power cut
    for place in range(1, 100):
        folder = tmp_path / str(place)
        run = Run(folder, keep_last=1)
        run.save(10)
        run.checkpoints.save_snapshot(run.model, 10)
        with killed_at(place, monkeypatch) as actions:
            try:
                run.save(20, is_extra=True)
                run.save(30)
                is_killed = False
            except Killed:
                is_killed = True
        resumed = Run(folder, keep_last=1)
        state = resumed.load()
        assert state is not None
        assert state.step in (10, 20, 30)
        assert resumed.weight() == state.step
        assert not list((folder / "checkpoints").glob("**/.*"))
        resumed.state, step = state, state.step
        resumed.save(step + 1)
        resumed.save(step + 2)
        assert kept(folder) == [step + 2]
        if not is_killed:
            break
    assert not is_killed
    assert set(actions) == {"write_weights", "write_json", "write_text", "rmtree", "rename", "mkdir", "unlink"}


def test_a_full_disk_leaves_the_checkpoint_before_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(tmp_path)
    run.save(10)
    before = sorted((tmp_path / "checkpoints").rglob("*"))

    def full(path: Path, *_: object) -> None:
        raise OSError(28, "No space left on device", str(path))

    monkeypatch.setattr(checkpoint_module, "write_json", full)
    with pytest.raises(OSError, match="No space left"):
        run.save(20)
    assert sorted((tmp_path / "checkpoints").rglob("*")) == before


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda state: state.update(step="ten"), "step is 'ten', not of its kind"),
        (lambda state: state.update(snapshots=3), "snapshots is 3, not of its kind"),
        (lambda state: state.update(snapshots=[3, "a"]), "snapshots is "),
        (lambda state: state.update(averaged=[-3]), "averaged is "),
        (lambda state: state.update(step=-1), "step is -1, not of its kind"),
        (lambda state: state.update(step=True), "step is True, not of its kind"),
        (lambda state: state.update(step=10**400), "step is 1000"),
        (lambda state: state.update(is_extra=1), "is_extra is 1, not of its kind"),
        (lambda state: state.update(best_values={"loss": "low"}), "best_values is "),
        (lambda state: state.update(mood="good"), "unknown or missing key 'mood'"),
        (lambda state: state.pop("epoch"), "unknown or missing key 'epoch'"),
    ],
)
def test_a_damaged_state_is_one_line(tmp_path: Path, damage: Callable[[dict[str, Any]], object], message: str) -> None:
    Run(tmp_path).save(10)
    path = tmp_path / "checkpoints/step-00000010/state.json"
    content = json.loads(path.read_text())
    damage(content)
    path.write_text(json.dumps(content))
    with pytest.raises(ModelError, match=message) as caught:
        Run(tmp_path).load()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "name", ["../../../etc/passwd", "step-00000010/../../..", "", "step-10", "\x00", "step-" + "1" * 200, "x" * 10_000]
)
def test_a_name_of_the_newest_that_is_none_is_one_line(tmp_path: Path, name: str) -> None:
    Run(tmp_path).save(10)
    (tmp_path / "checkpoints/LATEST").write_text(f"{name}\n")
    with pytest.raises(ModelError, match="checkpoints/LATEST: is ") as caught:
        Run(tmp_path).load()
    assert len(str(caught.value)) < 700


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json"])
def test_a_damaged_file_is_one_line(tmp_path: Path, name: str) -> None:
    Run(tmp_path).save(10)
    path = tmp_path / "checkpoints/step-00000010" / name
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(ModelError, match=str(path)):
        Run(tmp_path).load()
