"""The training loop.

One update: micro-batches → sums of losses → gradients divided once by the tokens of all → clip → optimizer. Everything
random in update number n follows from the seed and n, so a run that was killed and resumed has the weights, bit for
bit, of one that was not (on a CPU, with the same number of threads).
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path

import torch
from torch import nn

from transformer_core.data.batching import Batch, Batching
from transformer_core.data.shards import Corpus
from transformer_core.errors import Interrupted, OutOfMemoryError, TrainingError
from transformer_core.model import Transformer
from transformer_core.model_directory import read_weights, weights_of, write_weights
from transformer_core.out_of_memory import is_out_of_memory
from transformer_core.training.averaging import mean_weights
from transformer_core.training.checkpoint import Checkpoints, TrainingState, set_weights
from transformer_core.training.config import TrainingConfig
from transformer_core.training.interruption import Interruption, interruptible
from transformer_core.training.objectives import translation_loss
from transformer_core.training.optimizer import build_optimizer
from transformer_core.training.progress import Listener, StepReport, TrainingLog, ValidationReport
from transformer_core.training.schedule import learning_rate_at

__all__ = ["Decoded", "Trainer", "TrainingResult"]

MAX_SKIPPED_IN_A_ROW = 10  # updates with gradients that are not finite before training is called diverged


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """What decoding the validation pairs gave."""

    values: dict[str, float]  # metrics by name
    signatures: dict[str, str]  # their circumstances
    sample: tuple[str, str, str] | None  # source, hypothesis, reference


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """How training ended."""

    reason: str  # why it ended, for people
    is_finished: bool  # False when only the time was up: the same command goes on
    step: int
    best_step: int  # 0 where the weights are a mean
    values: dict[str, float]  # validation of the weights that were kept
    num_averaged: int  # snapshots in the mean that was kept, 0 if it was none
    state: TrainingState


class Trainer:
    """Trains one model on one corpus."""

    def __init__(
        self,
        model: Transformer,
        corpora: tuple[Corpus, Corpus],
        config: TrainingConfig,
        folder: Path,
        decode: Callable[[Transformer, int], Decoded],
        listener: Listener,
    ) -> None:
        """Prepare to train.

        Args:
            model: fresh, or with the weights to start from; on the device to train on.
            corpora: to train on, and to validate with.
            config: complete: nothing in it is None that follows from the data, and precision is not auto.
            folder: the model folder; best weights, checkpoints and logs go there.
            decode: translates validation lines with the model as `translate` does and scores them as `evaluate`
                does; its number is how many lines to look at, 0 for all.
            listener: is told how it goes.
        """
        self.model = model
        self.training_corpus, self.validation_corpus = corpora
        self.config = config
        self.folder = folder
        self.decode = decode
        self.device = next(model.parameters()).device
        self.optimizer = build_optimizer(model, config)
        self.checkpoints = Checkpoints(folder, config.keep_last)
        self.log = TrainingLog(folder, listener)
        self.state = TrainingState()
        special_ids = {name: getattr(model.config, name) for name in ("pad_id", "bos_id", "eos_id")}
        self.batching = Batching(
            batch_size=config.batch_size, batch_type=config.batch_type, seed=config.seed, **special_ids
        )
        self.num_batches = self.batching.num_batches(self.training_corpus)
        assert config.max_steps and config.valid_every, "the caller completes the config"
        self.max_steps, self.valid_every = config.max_steps, config.valid_every
        self._window_started_at = time.monotonic()
        self._gradient_norm = 0.0

    def run(self) -> TrainingResult:
        """Train, from the newest checkpoint if there is one, until something says stop.

        Raises:
            Interrupted: SIGINT or SIGTERM came; everything is saved.
            TrainingError: gradients stopped being finite.
            OutOfMemoryError: the largest batch does not fit.
        """
        state = self.checkpoints.load(self.model, self.optimizer)
        if state is not None:
            self.state = state
            self.log.cut_back(state.metrics_bytes, state.log_bytes)
            self.log.message(f"going on from step {state.step}")
        else:
            self.log.cut_back(0, 0)
            self._try_largest_batch()
        with interruptible() as interruption:
            reason, is_finished = self._loop(interruption)
            return self._finish(reason, is_finished)

    def _loop(self, interruption: Interruption) -> tuple[str, bool]:
        """Make updates until something says stop; give the reason and whether training is finished."""
        started_at, elapsed_before = time.monotonic(), self.state.elapsed_seconds
        self._window_started_at = started_at
        updates = self._updates()
        while (reason := self._reason_to_stop()) is None:
            self._update(next(updates))
            state = self.state
            state.elapsed_seconds = elapsed_before + time.monotonic() - started_at
            is_last = self._reason_to_stop() is not None
            if state.step % self.config.log_every == 0 or is_last:
                self._report_step()
            if state.step % self.valid_every == 0 or is_last:
                self._validate_and_select()
            if state.step % (self.config.save_every or self.valid_every) == 0 or is_last:
                self._save(is_extra=False)
            if interruption.signal_number is not None:
                self._save(is_extra=True)
                raise Interrupted(
                    interruption.signal_number,
                    f"interrupted at step {state.step}; everything is saved, the same command goes on from there",
                )
            if self.config.max_time is not None and time.monotonic() - started_at > 60 * self.config.max_time:
                self._save(is_extra=True)
                return f"the time of {self.config.max_time:g} minutes is up", False
        return reason, True

    def _reason_to_stop(self) -> str | None:
        """Say why training is over, if it is; depends on the state alone."""
        state, config = self.state, self.config
        if state.step >= self.max_steps:
            return f"all {self.max_steps} steps are done"
        if config.max_epochs is not None and state.epoch >= config.max_epochs:
            return f"all {config.max_epochs} epochs are done"
        if config.patience and state.num_worse >= config.patience:
            return f"{config.metric} has not become better for {state.num_worse} validations"
        return None

    def _updates(self) -> Iterator[list[Batch]]:
        """Give the micro-batches of one update after the other, from where the state stands; never ends."""
        while True:
            batches = self.batching.epoch(self.training_corpus, self.state.epoch, self.state.batch)
            while micro_batches := list(islice(batches, self.config.accumulate)):
                self.state.batch += len(micro_batches)
                yield micro_batches
            self.state.epoch += 1
            self.state.batch = 0

    def _update(self, micro_batches: list[Batch]) -> None:
        """Make one update, or leave it out when a gradient is not finite."""
        state, config = self.state, self.config
        torch.manual_seed(config.seed * 1_000_003 + state.step)  # dropout: the same in a resumed run
        for group in self.optimizer.param_groups:
            group["lr"] = self._learning_rate(state.step + 1)
        num_tokens = sum(batch.num_target_tokens for batch in micro_batches)
        loss_sum, nll_sum = self._backward(micro_batches, num_tokens)
        gradient_norm = self._clip()
        state.step += 1
        if math.isfinite(gradient_norm):
            self.optimizer.step()
            state.num_skipped_in_a_row = 0
            state.num_target_tokens += num_tokens
            state.window_tokens += num_tokens
            state.window_loss_sum += loss_sum
            state.window_nll_sum += nll_sum
            self._gradient_norm = gradient_norm
        else:
            self._skip()
        self.optimizer.zero_grad(set_to_none=True)

    def _backward(self, micro_batches: list[Batch], num_tokens: int) -> tuple[float, float]:
        """Sum gradients of the loss per token over the micro-batches; give the sums of loss and nll."""
        loss_sum = nll_sum = 0.0
        for batch in micro_batches:
            with self._autocast():
                loss = translation_loss(self.model, batch.to(self.device), self.config.label_smoothing)
            (loss.loss_sum / num_tokens).backward()
            loss_sum += loss.loss_sum.item()
            nll_sum += loss.nll_sum.item()
        return loss_sum, nll_sum

    def _clip(self) -> float:
        """Scale the gradients down to clip_norm if they are longer; give their length before."""
        limit = self.config.clip_norm or math.inf
        return nn.utils.clip_grad_norm_(self.model.parameters(), limit, foreach=True).item()

    def _skip(self) -> None:
        """Count an update whose gradients are not finite; many in a row mean that training has diverged."""
        self.state.num_skipped += 1
        self.state.num_skipped_in_a_row += 1
        if self.state.num_skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
            raise TrainingError(
                f"gradients were not finite in {MAX_SKIPPED_IN_A_ROW} updates in a row, at step {self.state.step} with "
                f"learning rate {self._learning_rate(self.state.step):.1e}: training has diverged. The last good "
                f"checkpoint is in {self.checkpoints.folder}; try a lower --lr, a longer --warmup-steps, or "
                "--precision fp32"
            )

    def _learning_rate(self, step: int) -> float:
        config = self.config
        assert config.learning_rate is not None and config.warmup_steps is not None, "the caller completes the config"
        return learning_rate_at(step, config.lr_schedule, config.learning_rate, config.warmup_steps, self.max_steps)

    def _autocast(self) -> AbstractContextManager[None]:
        if self.config.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, torch.bfloat16)

    def _try_largest_batch(self) -> None:
        """Run the batch that needs the most memory, so that running out of it shows in the first second."""
        batch = self.batching.largest(self.training_corpus)
        try:
            self._backward([batch] * self.config.accumulate, batch.num_target_tokens)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemoryError(
                f"the largest batch ({batch.source.size(0)} pairs of up to {batch.target_input.size(1)} tokens) does "
                f"not fit into memory; use a --batch-size below {self.config.batch_size} (with --accumulate for the "
                "same update), or a smaller --max-length"
            ) from None
        self.optimizer.zero_grad(set_to_none=True)

    def _report_step(self) -> None:
        """Report the updates since the last report."""
        state = self.state
        now = time.monotonic()
        tokens = max(1, state.window_tokens)
        seconds_per_step = state.elapsed_seconds / max(1, state.step)
        self.log.step(
            StepReport(
                step=state.step,
                max_steps=self.max_steps,
                epoch=self._epoch(),
                loss=state.window_loss_sum / tokens,
                perplexity=math.exp(min(700.0, state.window_nll_sum / tokens)),
                learning_rate=self._learning_rate(state.step),
                gradient_norm=self._gradient_norm,
                tokens_per_second=state.window_tokens / max(1e-9, now - self._window_started_at),
                num_skipped=state.num_skipped,
                elapsed_seconds=state.elapsed_seconds,
                remaining_seconds=seconds_per_step * (self.max_steps - state.step),
            )
        )
        state.window_tokens, state.window_loss_sum, state.window_nll_sum = 0, 0.0, 0.0
        self._window_started_at = now

    def _epoch(self) -> float:
        return self.state.epoch + min(1.0, self.state.batch / max(1, self.num_batches))

    def _validate_and_select(self) -> None:
        """Look at the validation pairs; keep the weights if they are the best so far, and a snapshot in any case."""
        state, config = self.state, self.config
        paused_at = time.monotonic()
        values, decoded = self.validate()
        value = values[config.metric]
        is_best = state.best_value is None or is_better(config.metric, value, state.best_value)
        if is_best:
            state.best_value, state.best_step, state.num_worse = value, state.step, 0
            write_weights(self.folder / "model.safetensors", weights_of(self.model))
        else:
            state.num_worse += 1
        if config.average_last:
            self.checkpoints.save_snapshot(self.model, state.step)
            state.snapshots = [*state.snapshots, state.step][-config.average_last :]
        self.log.validation(
            ValidationReport(
                step=state.step,
                epoch=self._epoch(),
                values=values,
                metric=config.metric,
                is_best=is_best,
                num_worse=state.num_worse,
                patience=config.patience,
                signatures=decoded.signatures,
                sample=decoded.sample,
            )
        )
        self._window_started_at += time.monotonic() - paused_at  # the pace of training leaves validation out

    def validate(self) -> tuple[dict[str, float], Decoded]:
        """Compute loss, perplexity and, where a metric needs it, the translation of the validation pairs."""
        self.model.eval()
        nll_sum = 0.0
        num_tokens = 0
        with torch.inference_mode(), self._autocast():
            for batch in self.batching.in_order(self.validation_corpus):
                loss = translation_loss(self.model, batch.to(self.device), 0.0)
                nll_sum += loss.nll_sum.item()
                num_tokens += loss.num_tokens
        nll = nll_sum / num_tokens
        decoded = self.decode(self.model, 1 if self.config.metric == "loss" else 0)
        self.model.train()
        return {"loss": nll, "perplexity": math.exp(min(700.0, nll)), **decoded.values}, decoded

    def _save(self, *, is_extra: bool) -> None:
        """Write a checkpoint."""
        self.state.is_extra = is_extra
        self.state.metrics_bytes, self.state.log_bytes = self.log.sizes()
        self.checkpoints.save(self.model, self.optimizer, self.state)

    def _finish(self, reason: str, is_finished: bool) -> TrainingResult:
        """Try the mean of the last snapshots against the best weights, and say how it ended."""
        state = self.state
        result = TrainingResult(
            reason=reason,
            is_finished=is_finished,
            step=state.step,
            best_step=state.best_step,
            values={} if state.best_value is None else {self.config.metric: state.best_value},
            num_averaged=0,
            state=state,
        )
        if not is_finished or len(state.snapshots) < 2 or state.best_value is None:
            return result
        shapes = {name: tuple(weight.shape) for name, weight in weights_of(self.model).items()}
        paths = [self.checkpoints.snapshot_path(step) for step in state.snapshots]
        mean = mean_weights(read_weights(path, shapes) for path in paths)
        set_weights(self.model, mean)
        values, _ = self.validate()
        is_kept = is_better(self.config.metric, values[self.config.metric], state.best_value)
        verdict = "better than" if is_kept else "not better than"
        self.log.message(
            f"mean of the last {len(paths)} snapshots: {self.config.metric} {values[self.config.metric]:.4f}, "
            f"{verdict} {state.best_value:.4f} of step {state.best_step}"
        )
        if not is_kept:
            return result
        write_weights(self.folder / "model.safetensors", mean)
        return replace(result, best_step=0, values=values, num_averaged=len(paths))


def is_better(metric: str, value: float, than: float) -> bool:
    """Tell whether a value of a metric beats another; what counts errors is better when lower."""
    if not math.isfinite(value):
        return False
    return value < than if metric in ("loss", "wer", "cer", "ter") else value > than
