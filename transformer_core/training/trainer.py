"""The training loop.

One update: micro-batches → sums of losses → gradients divided once by the tokens of all → clip → optimizer. Everything
random in update number n follows from the seed and n, so a run that was killed and resumed has the weights, bit for
bit, of one that was not (on a CPU, with the same number of threads).

Several processes (training/distributed.py) share the micro-batches of an update. Each of them runs this loop and holds
the same state; the first one alone looks at the validation pairs, decides and writes.
"""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from transformer_core.data.batching import Batch, Batching
from transformer_core.data.shards import Corpus
from transformer_core.errors import Interrupted, ModelError, OutOfMemoryError, TrainingError
from transformer_core.model import Transformer
from transformer_core.out_of_memory import is_out_of_memory
from transformer_core.training.checkpoint import Checkpoints, TrainingState
from transformer_core.training.config import TrainingConfig
from transformer_core.training.distributed import ALONE, Job
from transformer_core.training.interruption import Interruption, interruptible
from transformer_core.training.learner import Learner, Update
from transformer_core.training.objectives import Objective
from transformer_core.training.progress import Listener, StepReport, TrainingLog, ValidationReport
from transformer_core.training.schedule import fall_begins_at, learning_rate_at, num_micro_batches_at, num_updates
from transformer_core.training.selection import Selection
from transformer_core.training.validation_loss import perplexity_of, validation_values

__all__ = ["Decoded", "Trainer", "TrainingResult", "TrainingTask"]

MAX_SKIPPED_IN_A_ROW = 10  # updates with gradients that are not finite before training is called diverged


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """What decoding the validation pairs gave."""

    values: dict[str, float]  # metrics by name
    signatures: dict[str, str]  # their circumstances
    sample: tuple[str, str, str] | None  # source, hypothesis, reference


@dataclass(frozen=True)
class TrainingTask:
    """What is learned, and from what."""

    objective: Objective
    training: Corpus
    validation: Corpus
    # Decodes validation lines with the model as a user would and scores the metrics of text; the number of the step
    # decides which line is the sample.
    decode: Callable[[Transformer, int], Decoded]


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """How training ended."""

    reason: str  # why it ended, for people
    is_finished: bool  # False when only the time was up: the same command goes on
    state: TrainingState  # where it stands, and what the weights that were kept are worth


class Trainer:
    """Trains one model on one task."""

    def __init__(
        self,
        model: Transformer,
        task: TrainingTask,
        config: TrainingConfig,
        folder: Path,
        listener: Listener,
        job: Job = ALONE,
    ) -> None:
        """Prepare to train.

        Args:
            model: fresh, or with the weights to start from; on the device to train on.
            task: what to learn.
            config: complete: nothing in it is None that follows from the data, and precision is not auto.
            folder: the model folder; best weights, checkpoints and logs go there.
            listener: is told how it goes.
            job: the processes that train, connected.

        Raises:
            ModelError: the newest checkpoint is damaged.
        """
        self.job = job
        self.model = model
        self.task = task
        self.config = config
        self.device = model.device
        self.learner = Learner(model, task.objective, config, job)
        self.trained = self.learner.trained  # the model, but where its weights are split
        self.optimizer = self.learner.optimizer
        self.checkpoints = Checkpoints(folder, config.keep_last, is_writer=job.is_first)
        self.selection = Selection(model, self.checkpoints, config)
        self.log = TrainingLog(folder, listener, is_writer=job.is_first)
        # an update is what it was when the run began, however many processes go on with it
        self.state = self.checkpoints.state() or TrainingState(micro_batches=config.accumulate * job.world_size)
        assert config.batch_size and config.max_steps and config.valid_every, "the caller completes the config"
        self.batching = Batching.of_model(
            model.config, batch_size=config.batch_size, batch_type=config.batch_type, seed=config.seed
        )
        self.num_batches = self.batching.num_batches(task.training)
        self.max_steps, self.valid_every = self._num_steps(), config.valid_every
        self._unsettled: list[Update] = []  # made, but nobody has asked the device what they gave
        self._gradient_norm = math.nan
        self._is_saved = True  # the newest checkpoint holds all that was done

    def run(self) -> TrainingResult:
        """Train, from the newest checkpoint if there is one, until something says stop.

        Raises:
            Interrupted: SIGINT or SIGTERM came; everything is saved.
            TrainingError: gradients stopped being finite.
            OutOfMemoryError: the largest batch does not fit.
            ModelError: the checkpoint is damaged.
        """
        self.trained.train()
        state = self.checkpoints.load(self.trained, self.optimizer)
        self.job.require_one_folder(self.checkpoints.folder, 0 if state is None else state.step)
        if state is not None:
            self.selection.check(state)
            self.state = state
            self.log.cut_back(state.metrics_bytes, state.log_bytes)
            self.log.message(f"going on from step {state.step}")
        else:
            self.log.cut_back(0, 0)
            self._try_largest_batch()
        # torchrun repeats to every process of a job what one was sent, and ends those that do not come to an end
        with interruptible(is_patient=not self.job.is_alone) as interruption:
            reason = self._loop(interruption)
        if reason is None:
            assert self.config.max_time is not None
            reason = f"the time of {self.config.max_time:g} minutes is up at step {self.state.step}"
            return TrainingResult(reason=reason, is_finished=False, state=self.state)
        if self.job.is_first:
            self._try_mean()
        self._share_state()
        return TrainingResult(reason=reason, is_finished=True, state=self.state)

    def _loop(self, interruption: Interruption) -> str | None:
        """Make updates until something says stop; give the reason, or None when only the time is up.

        What is due after an update follows from the state alone. So a run that was stopped in the middle of it, while
        it validates, say, does it when it goes on.
        """
        state, config = self.state, self.config
        started_at, elapsed_before = time.monotonic(), state.elapsed_seconds
        updates = self._updates()
        while True:
            if self._is_validation_due():
                with self.learner.validated_weights():
                    self.learner.gather()
                    if self.job.is_first:
                        with suppress(KeyboardInterrupt):
                            self._validate_and_select(interruption)
                self._share_state()
            state.elapsed_seconds = elapsed_before + time.monotonic() - started_at
            reason = self._reason_to_stop()
            # at least one update in every run, so that with a limit shorter than an update there is progress, too
            is_time_up = not self._is_saved and time.monotonic() - started_at > 60 * (config.max_time or math.inf)
            signal_number, is_time_up = self.job.agree(interruption.signal_number, is_time_up)
            if not self._is_saved and (self._is_save_due() or signal_number is not None or is_time_up):
                self._save(is_extra=not self._is_save_due())
            if signal_number is not None:
                self.job.sum(0)  # no process ends before the first has saved: torchrun would end that one, too
                raise Interrupted(
                    signal_number,
                    f"interrupted at step {state.step}; everything is saved, the same command goes on from there",
                )
            if reason is not None or is_time_up:
                return reason
            began_at = time.monotonic()
            self._update(next(updates))
            state.window_seconds += time.monotonic() - began_at
            if self._is_report_due():
                state.elapsed_seconds = elapsed_before + time.monotonic() - started_at
                self._report_step()

    def _share_state(self) -> None:
        """Take over how the first process stands."""
        shared = self.job.share({**vars(self.state), "is_saved": self._is_saved})
        self._is_saved = shared.pop("is_saved")
        vars(self.state).update(shared)

    def _is_validation_due(self) -> bool:
        state = self.state
        is_due = state.step % self.valid_every == 0 or self._reason_to_stop() is not None
        return is_due and state.validated_step < state.step

    def _is_save_due(self) -> bool:
        every = self.config.save_every or self.valid_every
        return self.state.step % every == 0 or self._reason_to_stop() is not None

    def _is_report_due(self) -> bool:
        return self.state.step % self.config.log_every == 0 or self._reason_to_stop() is not None

    def _reason_to_stop(self) -> str | None:
        """Say why training is over, if it is; depends on the state alone."""
        state, config = self.state, self.config
        if config.max_epochs is not None and state.epoch >= config.max_epochs:
            return f"all {config.max_epochs} epochs are done"
        if state.step >= self.max_steps:
            return f"all {self.max_steps} steps are done"
        if config.patience and state.num_worse >= config.patience:
            return f"{config.metric} has not become better for {state.num_worse} validations"
        return None

    def _updates(self) -> Iterator[list[Batch]]:
        """Give this process's micro-batches of one update after the other, from where the state stands; never ends.

        An update is made of as many micro-batches as when the run began, however many processes share them now (the
        first ones of fewer, if that is asked for); the last one of an epoch of those that are left.
        """
        state, job = self.state, self.job
        while True:
            batches = self.batching.planned(self.task.training, state.epoch, state.batch)
            following = list(islice(batches, self._num_micro_batches(state.step + 1)))
            if not following:  # nothing would ever follow
                raise ModelError(
                    f"{self.checkpoints.folder}: no epoch has {state.batch} batches; start with --overwrite"
                )
            while micro_batches := following:
                following = list(islice(batches, self._num_micro_batches(state.step + 2)))
                if following:
                    state.batch += len(micro_batches)
                else:  # the last of this epoch: what comes next is the first of another
                    state.epoch, state.batch = state.epoch + 1, 0
                yield self.batching.deal(micro_batches, job.rank, job.world_size)

    def _num_steps(self) -> int:
        """Say after how many updates the run ends at the latest: the rate falls until then."""
        config, full = self.config, self.state.micro_batches
        assert config.max_steps is not None, "the caller completes the config"
        if config.max_epochs is None:
            return config.max_steps
        of_epochs = num_updates(config.max_epochs, self.num_batches, full, config.batch_warmup_steps)
        return min(config.max_steps, of_epochs)

    def _num_micro_batches(self, step: int) -> int:
        """Say of how many micro-batches of all processes update number `step` is made."""
        return num_micro_batches_at(step, self.state.micro_batches, self.config.batch_warmup_steps)

    def _update(self, micro_batches: list[Batch]) -> None:
        """Make one update, and count it as soon as that costs no waiting for the device."""
        state = self.state
        self.learner.set_dropout(state.step / self.max_steps)
        self._unsettled.append(self.learner.update(micro_batches, state.step, self._learning_rate(state.step + 1)))
        state.step += 1
        self._is_saved = False
        is_look_due = self._is_report_due() or self._is_validation_due() or self._is_save_due()
        if self.device.type == "cpu" or is_look_due:  # what waits for the device counts as time of updates
            self._settle()

    def _settle(self) -> None:
        """Count the updates that were made since the last time; only here does an update wait for the device."""
        state, updates, self._unsettled = self.state, self._unsettled, []
        for step, update in enumerate(updates, state.step - len(updates) + 1):
            loss_sum, nll_sum = self.job.sum(sum(update.loss_sums.tolist()), sum(update.nll_sums.tolist()))
            self._gradient_norm = update.gradient_norm.item()
            if math.isfinite(self._gradient_norm):
                state.num_skipped_in_a_row = 0
                state.num_target_tokens += update.num_tokens
                state.window_tokens += update.num_tokens
                state.window_loss_sum += loss_sum
                state.window_nll_sum += nll_sum
            else:
                self._skip(step)

    def _skip(self, step: int) -> None:
        """Count an update whose gradients are not finite; many in a row mean that training has diverged."""
        state = self.state
        state.num_skipped += 1
        state.num_skipped_in_a_row += 1
        self.log.warning(f"step {step}: a gradient is not finite; this update is left out")
        if state.num_skipped_in_a_row >= MAX_SKIPPED_IN_A_ROW:
            last_good = self.checkpoints.latest()
            raise TrainingError(
                f"gradients were not finite in {MAX_SKIPPED_IN_A_ROW} updates in a row, at step {step} with "
                f"learning rate {self._learning_rate(step):.1e}: training has diverged. The last good checkpoint "
                f"is {last_good or 'none: it came too early'}; start anew (--overwrite) with a lower --lr, a longer "
                "--warmup-steps, or --precision fp32"
            )

    def _learning_rate(self, step: int) -> float:
        config = self.config
        assert config.learning_rate is not None and config.warmup_steps is not None, "the caller completes the config"
        return learning_rate_at(step, config.lr_schedule, config.learning_rate, config.warmup_steps, self.max_steps)

    def _try_largest_batch(self) -> None:
        """Run the batch that needs the most memory, so that running out of it shows in the first second."""
        batch = self.batching.largest(self.task.training)
        batch = self.learner.prepare(batch, 0)
        num_tokens = batch.num_target_tokens * self.job.world_size
        try:
            self.learner.sum_gradients([batch], num_tokens, 0)
            self.optimizer.make_state()
            self.learner.sum_gradients([batch], num_tokens, 0)  # now beside what the optimizer keeps
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemoryError(
                f"the largest batch ({batch.source.size(0)} lines of up to {batch.target_input.size(1)} tokens) does "
                f"not fit into memory; start anew (--overwrite) with a --batch-size below {self.config.batch_size} "
                "(and --accumulate for the same update), or with a smaller --max-length"
            ) from None
        self.optimizer.zero_grad()

    def _report_step(self) -> None:
        """Report the updates since the last report."""
        state = self.state
        tokens = state.window_tokens or math.nan  # none if all were left out
        seconds_per_step = state.elapsed_seconds / max(1, state.step)
        self.log.step(
            StepReport(
                step=state.step,
                max_steps=self.max_steps,
                epoch=self._epoch(),
                loss=state.window_loss_sum / tokens,
                perplexity=perplexity_of(state.window_nll_sum / tokens),
                learning_rate=self._learning_rate(state.step),
                gradient_norm=self._gradient_norm,
                tokens_per_second=state.window_tokens / max(1e-9, state.window_seconds),
                num_target_tokens=state.num_target_tokens,
                num_skipped=state.num_skipped,
                elapsed_seconds=state.elapsed_seconds,
                remaining_seconds=seconds_per_step * (self.max_steps - state.step),
            )
        )
        state.window_tokens, state.window_loss_sum, state.window_nll_sum, state.window_seconds = 0, 0.0, 0.0, 0.0

    def _epoch(self) -> float:
        return self.state.epoch + min(1.0, self.state.batch / max(1, self.num_batches))

    def _validate_and_select(self, interruption: Interruption) -> None:
        """Look at the validation pairs, and keep what is to be kept.

        Raises:
            KeyboardInterrupt: a signal came; nothing is changed.
        """
        state, config = self.state, self.config
        with interruption.immediate():
            values, decoded = self.validate()
        assert config.warmup_steps is not None, "the caller completes the config"
        patient_until = fall_begins_at(config.lr_schedule, config.warmup_steps, self.max_steps)
        is_best = self.selection.consider(state, values, patient_until)
        state.validated_step = state.step
        self._is_saved = False
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

    def validate(self) -> tuple[dict[str, float], Decoded]:
        """Compute loss, perplexity, and what the objective and the metric ask for on the validation corpus."""
        self.model.eval()
        try:
            with self.learner.fast_products(), self.learner.autocast():
                batches = self.batching.in_order(self.task.validation)
                values = validation_values(self.model, self.task.objective, batches)
            decoded = self.task.decode(self.model, self.state.step)
        finally:
            self.model.train()
        return {**values, **decoded.values}, decoded

    def _save(self, *, is_extra: bool) -> None:
        """Write a checkpoint, or take part in it."""
        self._settle()
        self.state.is_extra = is_extra
        self.state.metrics_bytes, self.state.log_bytes = self.log.sizes()
        self.checkpoints.save(self.trained, self.optimizer, self.state)
        self._is_saved = True

    def _try_mean(self) -> None:
        outcome = self.selection.try_mean(self.state, lambda: self.validate()[0])
        if outcome is not None:
            self.log.message(outcome)
            self.state.metrics_bytes, self.state.log_bytes = self.log.sizes()
            self.checkpoints.save_state(self.state)
