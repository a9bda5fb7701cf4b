"""AdamW (Loshchilov and Hutter 2019), and its state as named tensors."""

from collections.abc import Mapping

import torch
from torch import Tensor

from transformer_core.model import Transformer
from transformer_core.training.config import TrainingConfig

__all__ = ["build_optimizer", "load_optimizer_state", "optimizer_state"]

EPSILON = 1e-9  # of Vaswani et al. 2017; small, because the gradients of rare embeddings are
STATE_NAMES = ("exp_avg", "exp_avg_sq", "step")


def build_optimizer(model: Transformer, config: TrainingConfig) -> torch.optim.AdamW:
    """Make AdamW over all weights; only matrices decay, not biases and norms."""
    matrices = [parameter for parameter in model.parameters() if parameter.dim() > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.dim() <= 1]
    return torch.optim.AdamW(
        [{"params": matrices, "weight_decay": config.weight_decay}, {"params": vectors, "weight_decay": 0.0}],
        lr=config.learning_rate or 0.0,
        betas=(config.beta1, config.beta2),
        eps=EPSILON,
        fused=True,
    )


def optimizer_state(model: Transformer, optimizer: torch.optim.AdamW) -> dict[str, Tensor]:
    """Name the tensors of the state by weight: "encoder….weight/exp_avg"."""
    return {
        f"{name}/{key}": optimizer.state[parameter][key]
        for name, parameter in model.named_parameters()
        for key in STATE_NAMES
        if parameter in optimizer.state
    }


def load_optimizer_state(model: Transformer, optimizer: torch.optim.AdamW, state: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_state` gave; tensors take the device of their weight."""
    for name, parameter in model.named_parameters():
        if f"{name}/step" in state:
            optimizer.state[parameter] = {key: state[f"{name}/{key}"].to(parameter.device) for key in STATE_NAMES}
