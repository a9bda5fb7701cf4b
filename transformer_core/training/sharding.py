"""Weights, gradients and optimizer state split over the processes of a job, for models that fit into none of them.

It is torch's fully sharded data parallelism (Zhao et al. 2023, "PyTorch FSDP"): the weights of a layer are put together
where it is computed, and dropped after. A weight is then a DTensor, of which each process holds a part. On disk nothing
is split.

torch takes a second to import what does this, so only those who split do.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeGuard

from torch import Tensor, nn

from transformer_core.config import ModelConfig
from transformer_core.errors import ConfigError
from transformer_core.model import Transformer

if TYPE_CHECKING:
    from torch.distributed.fsdp import FSDPModule
    from torch.distributed.tensor import DTensor

__all__ = ["gathered", "is_split", "laid_out_like", "require_splittable", "shard"]


def require_splittable(config: ModelConfig) -> None:
    """See that the weights of a model can be split layer by layer.

    Raises:
        ConfigError: layers share their weights.
    """
    if config.encoder.share_layers or config.decoder.share_layers:
        raise ConfigError("--fsdp does not go with --share-layers: weights are put together for each layer alone")


def shard(model: Transformer, root: nn.Module, num_processes: int) -> "FSDPModule":
    """Split the weights of a model layer by layer, and what is left of `root`, which holds it, as one more part.

    Raises:
        ConfigError: layers share their weights.
    """
    require_splittable(model.config)
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(model.device.type, (num_processes,))
    for layer in (*model.encoder.layers, *model.decoder.layers):
        fully_shard(layer, mesh=mesh)
    return fully_shard(root, mesh=mesh)


def is_split(tensor: Tensor) -> "TypeGuard[DTensor]":
    """Tell whether processes hold parts of a tensor."""
    return hasattr(tensor, "full_tensor")


def gathered(tensors: Mapping[str, Tensor], *, is_wanted: bool) -> dict[str, Tensor]:
    """Put split tensors together; every process must take part.

    Args:
        tensors: by name; those that are not split stay as they are.
        is_wanted: whether this process wants them; else it gets none that was split.
    """
    whole: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if not is_split(tensor):
            whole[name] = tensor
            continue
        full = tensor.full_tensor()
        if is_wanted:
            whole[name] = full.cpu()
    return whole


def laid_out_like(weight: Tensor, tensor: Tensor) -> Tensor:
    """Put a tensor on the device of a weight, and split it if the weight is; then every process must take part."""
    tensor = tensor.to(weight.device)
    if not is_split(weight) or not tensor.dim():  # the count of steps is a number
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor, weight.device_mesh, weight.placements)
