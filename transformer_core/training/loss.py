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
        with torch.autocast(hidden.device.type, enabled=False):
            for rows in _slices(target_ids):
                target = target_ids[rows].expand(hidden.size(0), -1)[..., None]
                # (passes, slice, d_model) x (d_model, vocabulary) -> (passes, slice, vocabulary)
                logits = functional.linear(hidden_product[:, rows], weight_product)
                log_probabilities = functional.log_softmax(logits, dim=-1, dtype=torch.float32)
                nll_sum -= log_probabilities.gather(2, target).sum(dtype=sum_dtype)
                if label_smoothing:
                    smooth_sum -= log_probabilities.sum(dim=-1).sum(dtype=sum_dtype)
                divergence_gradient = None
                if consistency:
                    divergence, divergence_gradient = _divergence(log_probabilities)
                    divergence_sum += divergence.sum(dtype=sum_dtype)
                if hidden_gradient is None:
                    continue
                # d loss / d logits = softmax - (1 - ε) one_hot(target) - ε / vocabulary; the last term is a constant
                # and joins after the loop
                gradient = log_probabilities.exp_()
                gradient.scatter_add_(2, target, log_probabilities.new_full(target.shape, label_smoothing - 1))
                gradient *= share
                if divergence_gradient is not None:
                    gradient.add_(divergence_gradient, alpha=consistency / 4)
                gradient = gradient.to(product_dtype)
                hidden_gradient[:, rows] = gradient @ weight_product
                if weight_gradient is not None:
                    _add_product(weight_gradient, gradient.flatten(0, 1).t(), hidden_product[:, rows].flatten(0, 1))
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


def _divergence(log_probabilities: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the Kullback-Leibler divergences between two passes, both ways.

    Args:
        log_probabilities: (2, tokens, vocabulary).

    Returns:
        each, (2, tokens, 1), and the gradient of their sum by the logits of both passes, (2, tokens, vocabulary).
    """
    probabilities = log_probabilities.exp()
    ratio = log_probabilities - log_probabilities.flip(0)  # log p - log q, and back
    divergences = (probabilities * ratio).sum(dim=-1, keepdim=True)
    # KL(p, q) moves the logits of p by p (log p - log q - KL(p, q)), and those of q by q - p
    gradient = probabilities * (ratio - divergences) + probabilities - probabilities.flip(0)
    return divergences, gradient


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add a matrix product to `total`, within it where the types allow that: a fifth faster."""
    if left.dtype == total.dtype:
        total.addmm_(left, right)
    else:
        total += left @ right


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
