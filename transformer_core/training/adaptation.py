"""Adapt a trained model without training all of it: parts stay as they are, or thin matrices are trained beside them.

A weight that is not trained has `requires_grad` False. It has no place in the optimizer, so it neither moves nor
decays, and stays as it was bit for bit. Adapters (layers/low_rank.py) exist while training lasts: what is saved as a
model has them merged into its weights.
"""

from collections.abc import Collection, Mapping

import torch
from torch import Tensor, nn

from transformer_core.config import ModelConfig, StackConfig
from transformer_core.errors import ConfigError
from transformer_core.layers.low_rank import LowRankLinear, low_rank_layers
from transformer_core.model import Transformer
from transformer_core.training.adaptation_config import AdaptationConfig, ModelPart
from transformer_core.training.sharding import laid_out_like

__all__ = ["adapt_model", "adapter_weights", "base_weights", "set_parameters"]

EMBEDDINGS = ("source_embedding.", "target_embedding.")


def adapt_model(model: Transformer, config: AdaptationConfig, fresh_parts: Collection[str], seed: int) -> str | None:
    """Set which weights are trained, and add adapters.

    Args:
        model: with the weights to start from.
        config: what is asked for.
        fresh_parts: first words of the names of weights that have not been trained yet; they are trained in any case.
        seed: start of the adapters' random choices.

    Returns:
        what is trained, for people; None where that is everything.

    Raises:
        ConfigError: a part is not there, is fresh, or nothing is left to train.
    """
    if config.is_whole:
        return None
    frozen = {name for part in config.parts for name in _names(model, part, fresh_parts)}
    for name, parameter in model.named_parameters():
        is_adapted = config.lora_rank is not None and name.partition(".")[0] not in fresh_parts
        parameter.requires_grad_(parameter.requires_grad and name not in frozen and not is_adapted)
    num_adapted = 0
    if config.lora_rank is not None:
        alpha = config.lora_rank if config.lora_alpha is None else config.lora_alpha
        num_adapted = _add_adapters(model, frozen, fresh_parts, (config.lora_rank, alpha), seed)
    trained = sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
    if not trained:
        raise ConfigError(f"--freeze {' --freeze '.join(config.freeze)}: leaves nothing to train")
    others = model.num_parameters() - trained
    stays = f"{trained:,} weights are trained, {others:,} stay as they are"
    return f"adapters of rank {config.lora_rank} beside {num_adapted} matrices: {stays}" if num_adapted else stays


def require_part(config: ModelConfig, part: ModelPart) -> None:
    """See that a model has a part.

    Raises:
        ConfigError: it has not.
    """
    if part.last is None:
        return
    stack: StackConfig = getattr(config, part.stack)
    if stack.share_layers:
        raise ConfigError(f"--freeze {part.name}: the layers of the {part.stack} are one; name {part.stack}")
    if part.last > stack.num_layers:
        raise ConfigError(f"--freeze {part.name}: the {part.stack} has layers 1 to {stack.num_layers}")


def _names(model: Transformer, part: ModelPart, fresh_parts: Collection[str]) -> list[str]:
    """Name the weights of a part.

    Raises:
        ConfigError: it is not there, or has not been trained yet.
    """
    require_part(model.config, part)
    prefixes: tuple[str, ...] = EMBEDDINGS if part.stack == "embeddings" else (f"{part.stack}.",)
    if part.first is not None and part.last is not None:
        prefixes = tuple(f"{part.stack}.layers.{number - 1}." for number in range(part.first, part.last + 1))
    if any(prefix.partition(".")[0] in fresh_parts for prefix in prefixes):
        raise ConfigError(f"--freeze {part.name}: something in it is fresh and has to be learned")
    return [name for name, _ in model.named_parameters() if name.startswith(prefixes)]


def _add_adapters(
    model: Transformer, frozen: Collection[str], fresh_parts: Collection[str], size: tuple[int, float], seed: int
) -> int:
    """Put adapters beside the projections of encoder and decoder that are neither frozen nor fresh; count them.

    Args:
        model: changes.
        frozen: names of weights that stay as they are.
        fresh_parts: as of `adapt_model`.
        size: rank and alpha.
        seed: start of the random choices.
    """
    random = torch.Generator().manual_seed(seed)
    stacks = [name for name in ("encoder", "decoder") if name not in fresh_parts]
    count = 0
    for stack in stacks:
        for prefix, module in list(model.get_submodule(stack).named_modules(prefix=stack)):
            for name, child in list(module.named_children()):
                if isinstance(child, nn.Linear) and f"{prefix}.{name}.weight" not in frozen:
                    setattr(module, name, LowRankLinear(child, *size, random))
                    count += 1
    return count


def adapter_weights(model: Transformer) -> dict[str, Tensor]:
    """Name the weights of the adapters; none where there are no adapters."""
    return {
        f"{name}.{part}": getattr(layer, part).detach()
        for name, layer in low_rank_layers(model)
        for part in ("adapter_down", "adapter_up")
    }


def base_weights(model: Transformer) -> dict[str, Tensor]:
    """Name the weights beside which adapters stand, as they were before."""
    return {f"{name}.weight": layer.weight.detach() for name, layer in low_rank_layers(model)}


def set_parameters(model: Transformer, weights: Mapping[str, Tensor]) -> None:
    """Copy weights to the parameters of these names, adapters or not."""
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for name, weight in weights.items():
            parameters[name].copy_(laid_out_like(parameters[name], weight))
