"""Which search the options of `translate` ask for, where several sources of settings speak of it."""

from typing import Any

import typer

from cli import settings
from cli.decoding_options import read_generation, search_config
from transformer_core.decoding.config import SearchConfig
from transformer_core.decoding.generation import model_search
from transformer_core.errors import ConfigError

__all__ = ["chosen_search"]


def chosen_search(context: typer.Context, *, scores: bool) -> SearchConfig:
    """Make the search of the options; scores are computed where they show.

    Raises:
        ConfigError: options contradict each other.
        ModelError: the model's defaults do.
    """
    values = dict(context.params)
    try:
        _choose_search(context, values)
    except ConfigError:
        model_search(read_generation(values))
        raise
    search = search_config(values, scores=scores)
    for name, is_heeded, needed in (
        ("early_stopping", search.beam_size > 1, "a --beam-size above 1"),
        ("diversity_penalty", search.beam_groups > 1, "--beam-groups above 1"),
        ("ordered_constraints", values["constraints"] or values["input_format"] == "jsonl", "--constraint"),
    ):
        # what a model or a configuration file says holds for other searches too
        if values[name] and not is_heeded and settings.origin_of(context, name) == "command line":
            raise ConfigError(f"--{name.replace('_', '-')} needs {needed}: otherwise it says nothing")
    return search


def _choose_search(context: typer.Context, values: dict[str, Any]) -> None:
    """Leave one of --greedy, --sample and a beam: what stands highest in the precedence of settings.

    What only another search heeds goes with it, such as the --top-k of a model that samples where a beam is asked for.

    Raises:
        ConfigError: two of them stand as high.
    """
    ranks = {name: settings.rank_of(context, name) for name in ("greedy", "sample") if values[name]}
    if not ranks:
        return
    if values["beam_size"] != 1:
        ranks["beam_size"] = settings.rank_of(context, "beam_size")
    highest = max(ranks.values())
    chosen, *others = [name for name, rank in ranks.items() if rank == highest]
    if "sample" in others:
        raise ConfigError("--greedy and --sample contradict each other; give one of them")
    if others:
        raise ConfigError(f"--{chosen} keeps no beam, but --beam-size is {values['beam_size']}; give one of them")
    if chosen != "beam_size":
        values["beam_size"] = 1
        if settings.rank_of(context, "beam_groups") < highest:
            values["beam_groups"] = SearchConfig.beam_groups
    if chosen != "sample" and "sample" in ranks:
        values["sample"] = False
        for name in ("temperature", "top_k", "top_p"):
            if settings.rank_of(context, name) < highest:
                values[name] = getattr(SearchConfig, name)
