"""The loss of a model as a module, and its gradients summed over the processes of a job."""

from contextlib import AbstractContextManager, nullcontext

from torch import nn
from torch.nn.parallel import DistributedDataParallel

from transformer_core.data.batching import Batch
from transformer_core.model import Transformer
from transformer_core.training.distributed import Job
from transformer_core.training.loss import LossSum
from transformer_core.training.objectives import Objective

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

    def __init__(self, loss: BatchLoss, job: Job) -> None:
        self.module: BatchLoss | DistributedDataParallel = loss
        self.num_processes = job.world_size
        if not job.is_alone:
            self.module = DistributedDataParallel(loss, broadcast_buffers=False, gradient_as_bucket_view=True)

    def loss(self, batch: Batch) -> LossSum:
        """Sum the loss over the real tokens of a prepared batch."""
        return self.module(batch)  # type: ignore[no-any-return]

    def backward(self, loss: LossSum, num_tokens: int) -> None:
        """Add the gradients of a loss divided by the tokens of the whole update, those of all processes."""
        # over the processes gradients are averaged; the factor makes a sum of it
        (loss.loss_sum / num_tokens * self.num_processes).backward()  # type: ignore[no-untyped-call]

    def summing(self, *, is_last: bool) -> AbstractContextManager[None]:
        """Surround the loss and the gradients of a batch: before the last one nothing goes between processes."""
        if is_last or not isinstance(self.module, DistributedDataParallel):
            return nullcontext()
        return self.module.no_sync()
