"""Cross-entropy with label smoothing (Szegedy et al. 2016), fused with the output projection.

The logits of a batch, tokens x vocabulary, are by far its largest tensor. Here they never exist as a whole: a slice of
tokens at a time is projected, its loss is summed and its gradient is taken on the spot, so that memory is that of one
slice and nothing has to be computed again on the way back. (torch's own `linear_cross_entropy` does so only without
label smoothing, as of torch 2.13.)
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional

__all__ = ["LossSum", "count_correct", "projected_cross_entropy"]

SLICE_TOKENS = 128  # tokens projected at a time: 128 to 512 measure alike, and 128 needs the least memory


class LossSum:
    """The loss of a batch as sums, to be divided once, after accumulation and over all workers.

    Attributes:
        loss_sum: scalar tensor, smoothed cross-entropy in nats, summed over real tokens; carries the gradient.
        nll_sum: scalar tensor, plain negative log-likelihood in nats, summed likewise.
        num_tokens: real target tokens, end tokens included.
        num_correct: those that the model finds most probable, where somebody wants to know.
    """

    def __init__(self, loss_sum: Tensor, nll_sum: Tensor, num_tokens: int, num_correct: int | None = None) -> None:
        self.loss_sum = loss_sum
        self.nll_sum = nll_sum
        self.num_tokens = num_tokens
        self.num_correct = num_correct


def projected_cross_entropy(
    hidden: Tensor, weight: Tensor, target_ids: Tensor, label_smoothing: float, consistency: float = 0.0
) -> LossSum:
    """Project hidden states to logits and sum their loss against the targets.

    With smoothing ε the target distribution is (1 - ε) on the right token plus ε spread evenly over the vocabulary, as
    in `torch.nn.functional.cross_entropy`.

    Of two passes over the same tokens, which differ by their dropout, the loss is the mean of both, and they are drawn
    to each other (R-Drop, Liang et al. 2021): consistency / 4 times the sum of the Kullback-Leibler divergences of one
    distribution from the other and back, which is alpha of the paper.

    Args:
        hidden: (tokens, d_model), the decoder's output at real tokens; or (2, tokens, d_model), that of two passes.
        weight: (vocabulary, d_model), the output projection.
        target_ids: (tokens,) int64.
        label_smoothing: ε, at least 0 and below 1.
        consistency: alpha; only of two passes.
    """
    passes = hidden if hidden.dim() == 3 else hidden[None]
    wants_gradient = torch.is_grad_enabled() and (hidden.requires_grad or weight.requires_grad)
    loss_sum, nll_sum = _ProjectedCrossEntropy.apply(  # type: ignore[no-untyped-call]
        passes, weight, target_ids, label_smoothing, consistency, wants_gradient
    )
    return LossSum(loss_sum, nll_sum, target_ids.numel())


class _ProjectedCrossEntropy(Function):
    """Loss and, where it is wanted, its gradient, in one pass over slices of tokens."""

    @staticmethod
    def forward(  # noqa: PLR0913 - torch takes no record
        ctx: Any,  # noqa: ANN401 - torch gives it no public type
        hidden: Tensor,
        weight: Tensor,
        target_ids: Tensor,
        label_smoothing: float,
        consistency: float,
        wants_gradient: bool,
    ) -> tuple[Tensor, Tensor]:
        """Sum the loss; keep the gradients for `backward`; hidden is (passes, tokens, d_model)."""
        product_dtype = torch.get_autocast_dtype(hidden.device.type) if _is_autocast(hidden) else hidden.dtype
        hidden_product, weight_product = hidden.to(product_dtype), weight.to(product_dtype)
        share = 1 / hidden.size(0)  # of each pass
        smoothing_share = share * label_smoothing / weight.size(0)
        sum_dtype = torch.float32 if hidden.device.type == "mps" else torch.float64  # Apple's GPUs have no float64
        nll_sum = hidden.new_zeros((), dtype=sum_dtype)
        smooth_sum, divergence_sum = nll_sum.clone(), nll_sum.clone()
        hidden_gradient = torch.empty_like(hidden) if wants_gradient else None
        wants_weight_gradient = wants_gradient and ctx.needs_input_grad[1]  # a frozen projection has none
        weight_gradient = torch.zeros_like(weight, dtype=torch.float32) if wants_weight_gradient else None
        room = _Room(weight_product, num_rows=hidden.size(0) * min(SLICE_TOKENS, target_ids.numel()))
        with torch.autocast(hidden.device.type, enabled=False):
            for rows in _slices(target_ids):
                states = hidden_product[:, rows].flatten(0, 1)  # (passes * slice, d_model)
                target = target_ids[rows].repeat(hidden.size(0))[:, None]  # (passes * slice, 1)
                logits = room.logits(states)  # (passes * slice, vocabulary)
                probabilities, log_sums = room.softmax(logits)
                nll_sum += (log_sums - logits.gather(1, target)).sum(dtype=sum_dtype)
                if label_smoothing:
                    of_all = weight.size(0) * log_sums.to(sum_dtype) - logits.sum(dim=1, keepdim=True)
                    smooth_sum += of_all.sum()
                if consistency:
                    gradient, divergence = room.consistent_gradient(
                        logits, probabilities, log_sums, share, consistency / 4
                    )
                    divergence_sum += divergence.sum(dtype=sum_dtype)
                if hidden_gradient is None:
                    continue
                if not consistency:
                    gradient = probabilities if share == 1 else probabilities.mul_(share)
                # d loss / d logits = softmax - (1 - ε) one_hot(target) - ε / vocabulary; the last term is a constant
                # and joins after the loop
                gradient.scatter_add_(1, target, gradient.new_full(target.shape, share * (label_smoothing - 1)))
                gradient = room.in_product_type(gradient)
                hidden_gradient[:, rows] = (gradient @ weight_product).view(hidden.size(0), -1, hidden.size(2))
                if weight_gradient is not None:
                    room.add_weight_gradient(weight_gradient, gradient, states)
        if hidden_gradient is not None:
            if label_smoothing:
                hidden_gradient -= smoothing_share * weight.sum(dim=0)
                if weight_gradient is not None:
                    weight_gradient -= smoothing_share * hidden.sum(dim=(0, 1))
            ctx.save_for_backward(hidden_gradient, weight_gradient)
        nll_sum *= share
        loss_sum = (1 - label_smoothing) * nll_sum + smoothing_share * smooth_sum + consistency / 4 * divergence_sum
        nll_sum = nll_sum.float()
        ctx.mark_non_differentiable(nll_sum)
        return loss_sum.float(), nll_sum

    @staticmethod
    def backward(ctx: Any, loss_gradient: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:  # noqa: ANN401
        """Scale the gradients that `forward` took."""
        hidden_gradient, weight_gradient = ctx.saved_tensors
        weight_gradient = None if weight_gradient is None else weight_gradient * loss_gradient
        return hidden_gradient * loss_gradient, weight_gradient, None, None, None, None


class _Room:
    """Memory that each slice uses again: to get fresh pages for it would take as long as to compute what goes there."""

    def __init__(self, weight: Tensor, num_rows: int) -> None:
        """Prepare for slices of so many rows at most.

        Args:
            weight: (vocabulary, d_model), the output projection in the type of products.
            num_rows: of all passes.
        """
        self.weight = weight
        self._logits, self._probabilities = weight.new_empty(2, num_rows, weight.size(0), dtype=torch.float32)
        is_float = weight.dtype == torch.float32
        self._product = self._logits if is_float else weight.new_empty(num_rows, weight.size(0))
        self._weight_gradient = None if is_float else torch.empty_like(weight)

    def logits(self, states: Tensor) -> Tensor:
        """(rows, d_model) -> (rows, vocabulary) float32."""
        num_rows = states.size(0)
        product = torch.mm(states, self.weight.mT, out=self._product[:num_rows])
        return product if self._product is self._logits else self._logits[:num_rows].copy_(product)

    def softmax(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """(rows, vocabulary) -> softmax, of the same shape, and the logarithm of what it divides by, (rows, 1).

        The latter follows from the largest logit and its probability, which is at least 1 / vocabulary: so log-softmax,
        the difference of both, costs no exponentials of its own.
        """
        probabilities = torch.softmax(logits, dim=1, out=self._probabilities[: logits.size(0)])
        return probabilities, logits.amax(dim=1, keepdim=True) - probabilities.amax(dim=1, keepdim=True).log()

    def consistent_gradient(
        self, logits: Tensor, probabilities: Tensor, log_sums: Tensor, share: float, factor: float
    ) -> tuple[Tensor, Tensor]:
        """Differentiate the divergences between two passes, both ways, and the nll but for its target.

        Args:
            logits: (2 * tokens, vocabulary), the last ones; they are overwritten.
            probabilities: their softmax.
            log_sums: the logarithms of what it divides by, (2 * tokens, 1).
            share: factor of the nll.
            factor: of the divergences.

        Returns:
            the gradient by the logits, (2 * tokens, vocabulary), in their place, and the divergences, (2, tokens, 1).
        """
        first, second = probabilities.chunk(2)  # p and q
        room, difference = logits.chunk(2)
        first_log_sum, second_log_sum = log_sums.chunk(2)
        torch.sub(room, difference, out=difference).sub_(first_log_sum - second_log_sum)  # log p - log q
        there = torch.mul(first, difference, out=room).sum(dim=-1, keepdim=True)
        back = -torch.mul(second, difference, out=room).sum(dim=-1, keepdim=True)
        # KL(p, q) moves the logits of p by p (log p - log q - KL(p, q)), and those of q by q - p
        of_first, of_second = (share + factor - factor * divergence for divergence in (there, back))
        torch.mul(difference, factor, out=room).add_(of_first).mul_(first).sub_(second, alpha=factor)
        difference.mul_(-factor).add_(of_second).mul_(second).sub_(first, alpha=factor)
        return logits, torch.stack((there, back))

    def in_product_type(self, gradient: Tensor) -> Tensor:
        """Convert a gradient by the logits, (rows, vocabulary) float32, to the type of products."""
        if self._product is self._logits:
            return gradient
        return self._product[: gradient.size(0)].copy_(gradient)

    def add_weight_gradient(self, total: Tensor, gradient: Tensor, states: Tensor) -> None:
        """Add (rows, vocabulary)ᵀ x (rows, d_model) to a total in float32."""
        if self._weight_gradient is None:
            total.addmm_(gradient.t(), states)
        else:
            total += torch.mm(gradient.t(), states, out=self._weight_gradient)


def count_correct(hidden: Tensor, weight: Tensor, target_ids: Tensor) -> int:
    """Count the tokens that the model finds most probable; shapes as in `projected_cross_entropy`."""
    hits = [
        (functional.linear(hidden[rows], weight).argmax(dim=-1) == target_ids[rows]).sum() for rows in _slices(hidden)
    ]
    return int(torch.stack(hits).sum())


def _slices(tokens: Tensor) -> Iterator[slice]:
    """Some tokens at a time, of (tokens, …)."""
    for start in range(0, tokens.size(0), SLICE_TOKENS):
        yield slice(start, start + SLICE_TOKENS)


def _is_autocast(tensor: Tensor) -> bool:
    return torch.is_autocast_enabled(tensor.device.type)
