"""What turns gradients into new weights: AdamW (Loshchilov and Hutter 2019) alone, or Muon for most of the matrices."""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from transformer_core.model import Transformer
from transformer_core.training.config import TrainingConfig
from transformer_core.training.loss_scale import LossScale
from transformer_core.training.moving_average import MovingAverage
from transformer_core.training.muon import Muon
from transformer_core.training.sharding import laid_out_like

__all__ = ["ModelOptimizer"]

EPSILON = 1e-9  # of Vaswani et al. 2017; small, because the gradients of rare embeddings are
RATE_FACTOR = "rate_factor"  # of a group: its learning rate in multiples of the schedule's


class ModelOptimizer:
    """Updates the weights of a model that need a gradient.

    The matrices inside the layers take the learning rate as it is, and Muon if that is asked for. Embeddings, norms and
    biases are always AdamW's and take a multiple of the rate. Norms and biases do not decay.
    """

    def __init__(self, model: Transformer, config: TrainingConfig) -> None:
        named = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
        inner = {name for name in named if name.startswith(("encoder.", "decoder."))}
        inner_matrices = [weight for name, weight in named.items() if name in inner and weight.dim() > 1]
        embeddings = [weight for name, weight in named.items() if name not in inner]
        vectors = [weight for name, weight in named.items() if name in inner and weight.dim() <= 1]
        assert config.optimizer != "auto", "the caller completes it"
        rate, decay, factor = config.learning_rate or 0.0, config.weight_decay, config.embedding_lr_factor or 1.0
        groups = [
            {"params": embeddings, "weight_decay": decay, RATE_FACTOR: factor},
            {"params": vectors, "weight_decay": 0.0, RATE_FACTOR: factor},
        ]
        self._named = named
        self._device = model.device
        self.loss_scale = (
            LossScale(self._device) if config.precision == "fp16" else None
        )  # by which the loss is multiplied
        self.moving_average = MovingAverage(named, config.ema_decay) if config.ema_decay else None
        self._optimizers: list[torch.optim.Optimizer] = []
        if config.optimizer == "muon":
            dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
            muon = Muon(inner_matrices, lr=rate, momentum=config.momentum, weight_decay=decay, dtype=dtype)
            self._optimizers.append(muon)
        else:
            groups.append({"params": inner_matrices, "weight_decay": decay})
        groups = [group for group in groups if group["params"]]
        if groups:
            betas = (config.beta1, config.beta2)
            self._optimizers.append(torch.optim.AdamW(groups, lr=rate, betas=betas, eps=EPSILON, fused=True))

    def step(self, learning_rate: float, *, is_finite: Tensor) -> None:
        """Update the weights, or leave everything as it is; which of both is decided on the device.

        Args:
            learning_rate: before the factors of the groups.
            is_finite: scalar bool, whether all gradients are.
        """
        for optimizer in self._optimizers:
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * group.get(RATE_FACTOR, 1.0)
        self._step_if(is_finite)
        if self.loss_scale is not None:
            self.loss_scale.follow(is_finite)
        if self.moving_average is not None:
            self.moving_average.follow(is_finite)

    def make_state(self) -> None:
        """Take the memory that the first step would take; the weights must have gradients, and nothing changes."""
        self._step_if(torch.tensor(False, device=self._device))

    def _step_if(self, is_finite: Tensor) -> None:
        for optimizer in self._optimizers:
            # AdamW looks for it, as torch's GradScaler sets it
            optimizer.found_inf = (~is_finite).float()  # type: ignore[attr-defined]
            optimizer.step()

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for optimizer in self._optimizers:
            optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Tensor]:
        """Name the tensors of the state by weight: "encoder….weight/exp_avg"."""
        state = {
            f"{name}/{key}": optimizer.state[weight][key]
            for name, weight, optimizer in self._owners()
            for key in _state_names(optimizer)
            if weight in optimizer.state
        }
        for part in (self.loss_scale, self.moving_average):
            state |= {} if part is None else part.state()
        return state

    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """Give the shapes of what `state` gives once a step was made."""
        shapes: dict[str, tuple[int, ...]] = {
            f"{name}/{key}": () if key == "step" else tuple(weight.shape)
            for name, weight, optimizer in self._owners()
            for key in _state_names(optimizer)
        }
        for part in (self.loss_scale, self.moving_average):
            shapes |= {} if part is None else {name: tuple(tensor.shape) for name, tensor in part.state().items()}
        return shapes

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Put back what `state` gave; tensors take the device of their weight."""
        if self.loss_scale is not None:
            self.loss_scale.load_state(state)
        for name, weight, optimizer in self._owners():
            tensors = {key: state[f"{name}/{key}"] for key in _state_names(optimizer) if f"{name}/{key}" in state}
            if tensors:
                optimizer.state[weight] = {key: laid_out_like(weight, tensor) for key, tensor in tensors.items()}
        if self.moving_average is not None:
            self.moving_average.load_state(state)

    def _owners(self) -> Iterator[tuple[str, nn.Parameter, torch.optim.Optimizer]]:
        """Give every weight with its name and the optimizer that updates it."""
        owners = {
            weight: optimizer
            for optimizer in self._optimizers
            for group in optimizer.param_groups
            for weight in group["params"]
        }
        for name, weight in self._named.items():
            yield name, weight, owners[weight]


def _state_names(optimizer: torch.optim.Optimizer) -> tuple[str, ...]:
    return ("momentum",) if isinstance(optimizer, Muon) else ("exp_avg", "exp_avg_sq", "step")
