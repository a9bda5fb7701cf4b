"""One update of the weights: gradients of micro-batches, summed over the processes of a job, then the optimizer.

Nothing here waits for the device. Whether an update was made is decided on it (the optimizer is told, and leaves the
weights alone), and what an update gave stays there until the trainer asks.
"""

import copy
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from transformer_core.data.batching import Batch
from transformer_core.data.masking import corruption_source
from transformer_core.fp32_products import fast_fp32_products
from transformer_core.model import Transformer
from transformer_core.model_directory import weights_of
from transformer_core.training.checkpoint import set_weights
from transformer_core.training.config import TrainingConfig
from transformer_core.training.distributed import Job
from transformer_core.training.loss import LossSum
from transformer_core.training.objectives import Objective
from transformer_core.training.optimizer import ModelOptimizer
from transformer_core.training.sharding import gathered, is_split, shard

__all__ = ["BatchLoss", "Learner", "Update"]

AUTOCAST_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Update(NamedTuple):
    """What an update gave; the tensors are still on the device."""

    loss_sums: Tensor  # (micro_batches of this process,) smoothed loss in nats
    nll_sums: Tensor  # likewise, negative log-likelihood in nats
    gradient_norm: Tensor  # scalar, before clipping; the update was left out if it is not finite
    num_tokens: int  # target tokens of all processes


class BatchLoss(nn.Module):
    """Computes the loss of a prepared batch: what sums gradients over processes wraps a module and its forward."""

    def __init__(self, model: Transformer, objective: Objective, label_smoothing: float) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.label_smoothing = label_smoothing

    def forward(self, batch: Batch) -> LossSum:
        """Sum the loss over the real tokens of the batch."""
        return self.objective.loss(self.model, batch, self.label_smoothing)


class Learner:
    """Makes updates of a model; every process of a job makes the same."""

    def __init__(self, model: Transformer, objective: Objective, config: TrainingConfig, job: Job) -> None:
        """Prepare.

        Args:
            model: on the device to train on; trained itself, but where its weights are to be split.
            objective: what to learn.
            config: how; with `fsdp`, weights are split over the processes.
            job: the processes that train, connected.
        """
        self.job = job
        self.model = model
        self.objective = objective
        self.config = config
        self.device = model.device
        self.is_sharded = config.fsdp and not job.is_alone
        # Split weights cannot be looked at: the first process has a whole copy to validate and to keep the best of.
        self.trained = copy.deepcopy(model) if self.is_sharded and job.is_first else model
        loss = BatchLoss(self.trained, objective, config.label_smoothing)
        self._module: nn.Module = loss
        self._sharded = shard(self.trained, loss, job.world_size) if self.is_sharded else None
        self._replicated: DistributedDataParallel | None = None
        if not self.is_sharded and not job.is_alone:
            self._module = self._replicated = DistributedDataParallel(loss, gradient_as_bucket_view=True)
        self.optimizer = ModelOptimizer(self.trained, config)

    def update(self, micro_batches: Sequence[Batch], step: int, learning_rate: float) -> Update:
        """Make one update, or leave it out when a gradient is not finite.

        Args:
            micro_batches: of this process, as the corpus has them; one without target tokens only takes part.
            step: updates before this one; it and the seed decide everything random.
            learning_rate: of this update.
        """
        prepared = [
            self.prepare(batch, step, self._number(place)) if batch.num_target_tokens else batch
            for place, batch in enumerate(micro_batches)
        ]
        num_tokens = int(self.job.sum(sum(batch.num_target_tokens for batch in prepared))[0])
        with self.fast_products():
            loss_sums, nll_sums = self.sum_gradients(prepared, num_tokens, step)
            gradient_norm = self.clip()
            self.optimizer.step(learning_rate, is_finite=gradient_norm.isfinite())
        self.optimizer.zero_grad()
        return Update(loss_sums, nll_sums, gradient_norm, num_tokens)

    def prepare(self, batch: Batch, step: int, number: int = 0) -> Batch:
        """Make of a batch of the corpus what is learned from; number: its place in the update, over all processes."""
        return self.objective.prepare(batch, corruption_source(self.config.seed, step, number), is_training=True)

    def sum_gradients(self, prepared: Sequence[Batch], num_tokens: int, step: int) -> tuple[Tensor, Tensor]:
        """Sum the gradients of the loss per token over the prepared micro-batches of all processes.

        Args:
            prepared: the micro-batches of this process.
            num_tokens: target tokens of all processes.
            step: updates before this one.

        Returns:
            Loss and negative log-likelihood of each of the own micro-batches, summed over its tokens,
            (micro_batches,) each.
        """
        losses: list[LossSum] = []
        for place, batch in enumerate(prepared):
            # dropout: the same in a resumed run, and whichever process computes the micro-batch
            torch.manual_seed(self.config.seed * 1_000_003 + step + (self._number(place) << 40))
            with self._summing(is_last=place + 1 == len(prepared)):
                with self.autocast():
                    loss: LossSum = self._module(batch.to(self.device))
                # over the processes gradients are averaged; world_size makes a sum of it
                mean = loss.loss_sum / num_tokens * self.job.world_size
                if (scale := self.optimizer.loss_scale) is not None:
                    mean = mean * scale.factor
                mean.backward()  # type: ignore[no-untyped-call]
            losses.append(loss)
        return torch.stack([loss.loss_sum.detach() for loss in losses]), torch.stack([loss.nll_sum for loss in losses])

    def clip(self) -> Tensor:
        """Scale the gradients down to clip_norm if they are longer; give their length before."""
        weights = [weight for weight in self.trained.parameters() if weight.grad is not None]
        if (scale := self.optimizer.loss_scale) is not None:
            for weight in weights:
                assert weight.grad is not None
                weight.grad /= scale.factor
        norm = nn.utils.clip_grad_norm_(weights, self.config.clip_norm or math.inf)
        return norm.full_tensor() if is_split(norm) else norm

    def autocast(self) -> AbstractContextManager[None]:
        """Compute the block in the precision of the config."""
        if (dtype := AUTOCAST_DTYPES.get(self.config.precision)) is None:
            return nullcontext()
        return torch.autocast(self.device.type, dtype)

    def fast_products(self) -> AbstractContextManager[None]:
        """Let the block multiply as fast as the device can in fp32; where that is not asked for, nothing changes."""
        is_fp32_on_cpu = self.config.precision == "fp32" and self.device.type == "cpu"
        return fast_fp32_products() if is_fp32_on_cpu else nullcontext()

    def gather(self) -> None:
        """Bring the whole copy up to date where weights are split; every process must take part."""
        if self.is_sharded:
            weights = gathered(weights_of(self.trained), is_wanted=self.job.is_first)
            if self.job.is_first:
                set_weights(self.model, weights)

    def validated_weights(self) -> AbstractContextManager[None]:
        """Let the model have the weights that are validated and kept: their moving average, if there is one."""
        moving_average = self.optimizer.moving_average
        return nullcontext() if moving_average is None else moving_average.in_place()

    def set_dropout(self, share_done: float) -> None:
        """Let the model drop what is due when a share of training, 0 to 1, is done."""
        if (final := self.config.final_dropout) is not None:
            first = self.model.config.dropout
            self.trained.set_dropout(first + (final - first) * share_done)

    def _summing(self, *, is_last: bool) -> AbstractContextManager[None]:
        """Surround the loss and the gradients of a batch: before the last one nothing goes between processes."""
        if self._sharded is not None:
            self._sharded.set_requires_gradient_sync(is_last)
        if self._replicated is None or is_last:
            return nullcontext()
        return self._replicated.no_sync()

    def _number(self, place: int) -> int:
        """Give the number, within an update, of the micro-batch at a place among those of this process."""
        return self.job.rank + place * self.job.world_size
