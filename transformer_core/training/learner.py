"""The loss of a model as a module, and its gradients summed over the processes of a job."""

import copy
from contextlib import AbstractContextManager, nullcontext

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from transformer_core.data.batching import Batch
from transformer_core.model import Transformer
from transformer_core.model_directory import weights_of
from transformer_core.training.checkpoint import set_weights
from transformer_core.training.config import TrainingConfig
from transformer_core.training.distributed import Job
from transformer_core.training.loss import LossSum
from transformer_core.training.objectives import Objective
from transformer_core.training.sharding import gathered, shard

__all__ = ["BatchLoss", "Learner"]


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
    """Computes losses on this process; their gradients are summed over the job at the last batch of an update."""

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
        self.is_sharded = config.fsdp and not job.is_alone
        # Split weights cannot be looked at: the first process has a whole copy to validate and to keep the best of.
        self.trained = copy.deepcopy(model) if self.is_sharded and job.is_first else model
        loss = BatchLoss(self.trained, objective, config.label_smoothing)
        self._module: nn.Module = loss
        self._sharded = shard(self.trained, loss, job.world_size) if self.is_sharded else None
        self._replicated: DistributedDataParallel | None = None
        if not self.is_sharded and not job.is_alone:
            self._module = self._replicated = DistributedDataParallel(loss, gradient_as_bucket_view=True)

    def loss(self, batch: Batch) -> LossSum:
        """Sum the loss over the real tokens of a prepared batch."""
        return self._module(batch)  # type: ignore[no-any-return]

    def backward(self, loss: LossSum, num_tokens: int) -> None:
        """Add the gradients of a loss divided by the tokens of the whole update, those of all processes."""
        # over the processes gradients are averaged; the factor makes a sum of it
        (loss.loss_sum / num_tokens * self.job.world_size).backward()  # type: ignore[no-untyped-call]

    def summing(self, *, is_last: bool) -> AbstractContextManager[None]:
        """Surround the loss and the gradients of a batch: before the last one nothing goes between processes."""
        if self._sharded is not None:
            self._sharded.set_requires_gradient_sync(is_last)
        if self._replicated is None or is_last:
            return nullcontext()
        return self._replicated.no_sync()

    def gather(self) -> None:
        """Bring the whole copy up to date where weights are split; every process must take part."""
        if self.is_sharded:
            weights = gathered(weights_of(self.trained), is_wanted=self.job.is_first)
            if self.job.is_first:
                set_weights(self.model, weights)
