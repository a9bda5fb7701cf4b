"""generation.json: how a model wants to be decoded, for whoever is not told otherwise. It may hold anything.

Imports no torch.
"""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

from transformer_core.decoding.config import BatchConfig, SearchConfig
from transformer_core.errors import ConfigError, ModelError

__all__ = ["model_length_ratio", "model_search", "model_source_limit"]


def model_search(generation: Mapping[str, Any], name: str = "generation.json") -> SearchConfig:
    """Make the search that a model was saved with; how many hypotheses there are to be is not for it to say.

    Greedy search and sampling keep no beam, so that a model that names one of them need not say so.

    Args:
        generation: the parsed file.
        name: what messages call it.

    Raises:
        ModelError: a value cannot be.
    """
    kinds = {item.name: type(item.default) for item in fields(SearchConfig) if item.name != "n_best"}
    values = {key: value for key, value in generation.items() if key in kinds}
    for key, value in values.items():
        kind = int if key == "max_length" else kinds[key]
        if type(value) is not kind and not (kind is float and type(value) is int and abs(value) < 1 << 53):
            raise ModelError(f"{name}: {key} is {value!r:.100}, not of its kind")
    greedy = generation.get("greedy", False)
    if type(greedy) is not bool:
        raise ModelError(f"{name}: greedy is {greedy!r:.100}, not of its kind")
    if greedy and values.get("sample"):
        raise ModelError(f"{name}: greedy and sample contradict each other")
    if greedy or values.get("sample"):
        values.setdefault("beam_size", 1)
    if greedy and values["beam_size"] != 1:
        raise ModelError(f"{name}: greedy keeps no beam, but beam_size is {values['beam_size']}")
    try:
        return SearchConfig(**values)
    except ConfigError as error:
        raise ModelError(f"{name}: {error}") from None


def model_length_ratio(generation: Mapping[str, Any]) -> float:
    """Give the tokens that a translation may have per token of its source, as the model was saved with.

    Raises:
        ModelError: the value cannot be.
    """
    name = "max_length_ratio"
    return model_search({name: generation[name]} if name in generation else {}).max_length_ratio


def model_source_limit(generation: Mapping[str, Any]) -> int:
    """Give the tokens of a line that a model can take at once.

    Raises:
        ModelError: the value cannot be.
    """
    limit = generation.get("max_source_length", BatchConfig.max_source_length)
    if type(limit) is not int or limit < 1:
        raise ModelError(f"generation.json: max_source_length is {limit!r:.100}, not a number of tokens")
    return limit
