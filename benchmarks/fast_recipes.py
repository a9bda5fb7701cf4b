"""Fast ways to translate beside the plain one: speed and BLEU, one thread, one after the other in turn.

    python benchmarks/fast_recipes.py MODEL --source FILE --reference FILE [--other MODEL] [--beam-size 1] ...

    fp32                 MODEL as it is
    int8                 with 8-bit products
    shortlist            with its shortlist (`transduce shortlist`)
    int8, shortlist      with both
    OTHER                another model, by its name, such as a student with a shallow decoder; as many as are named
    OTHER, all           that with 8-bit products and its shortlist

A recipe whose model has no shortlist is left out. Every round runs all recipes, so that what else the machine does
falls on all of them; figures are CPU-seconds of this process, medians of the rounds. `times` is the time of fp32 by
that of the recipe, the median of the rounds.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from cli.main import LIBRARY_SETTINGS

os.environ |= {"OMP_NUM_THREADS": "1", **LIBRARY_SETTINGS}  # read when torch is loaded

import torch
from results_table import MACHINE, Row, show, write_figures

from transformer_core.decoding.config import BatchConfig, SearchConfig
from transformer_core.decoding.translator import Translator
from transformer_core.evaluation.metrics import MetricOptions, evaluate_corpus
from transformer_core.model_directory import LoadedModel, load_model
from transformer_core.model_files import SHORTLIST_FILE

Texts = list[str]
Translate = Callable[[], Texts]


def recipe(
    loaded: LoadedModel, search: SearchConfig, precision: Literal["fp32", "int8"], lines: Sequence[str]
) -> Translate:
    """Make ready; each call translates all lines."""
    tokenizers = loaded.source_tokenizer, loaded.target_tokenizer
    translator = Translator(loaded.model, *tokenizers, search, BatchConfig(precision=precision))
    if search.shortlist:
        assert loaded.shortlist is not None
        translator.choose_among(loaded.shortlist)
    return lambda: [found.hypotheses[0].text for found in translator.translate(lines)]


def recipes(folder: Path, others: Sequence[Path], beam_size: int, lines: Sequence[str]) -> dict[str, Translate]:
    """Name everything that is measured."""
    plain = SearchConfig(beam_size=beam_size, max_length=256, scores=False)
    short = SearchConfig(beam_size=beam_size, max_length=256, scores=False, shortlist=True)
    loaded = load(folder)
    found = {"fp32": recipe(loaded, plain, "fp32", lines), "int8": recipe(loaded, plain, "int8", lines)}
    if loaded.shortlist is not None:
        found["shortlist"] = recipe(loaded, short, "fp32", lines)
        found["int8, shortlist"] = recipe(loaded, short, "int8", lines)
    for path in others:
        other = load(path)
        found[path.name] = recipe(other, plain, "fp32", lines)
        if other.shortlist is not None:
            found[f"{path.name}, all"] = recipe(other, short, "int8", lines)
    return found


def load(folder: Path) -> LoadedModel:
    """Read a model, and its shortlist if it has one."""
    return load_model(folder, needs_shortlist=(folder / SHORTLIST_FILE).exists())


def timed(translate: Translate) -> float:
    """Translate; give the CPU-seconds that it took."""
    started_at = time.process_time()
    translate()
    return time.process_time() - started_at


def measure(ways: Mapping[str, Translate], rounds: int, references: Sequence[str], *, lowercase: bool) -> list[Row]:
    """Let all translate in turn, and score what they wrote."""
    options = MetricOptions(lowercase=lowercase)
    texts = {name: translate() for name, translate in ways.items()}  # also makes what is made when first needed
    seconds = [{name: timed(translate) for name, translate in ways.items()} for _ in range(rounds)]
    return [
        {
            "recipe": name,
            "BLEU": evaluate_corpus(texts[name], [list(references)], ["bleu"], options)[0].value,
            "s": statistics.median(each[name] for each in seconds),
            "lines/s": len(references) / statistics.median(each[name] for each in seconds),
            "times": statistics.median(each["fp32"] / each[name] for each in seconds),
            "rounds": " ".join(f"{each['fp32'] / each[name]:.2f}" for each in seconds),
        }
        for name in ways
    ]


def read(path: Path, count: int | None) -> list[str]:
    """Read the first lines of a file."""
    return path.read_text(encoding="utf-8").split("\n")[:-1][:count]


def main() -> None:
    """Measure, print a table and write the JSON."""
    parser = argparse.ArgumentParser(description="Fast ways to translate: speed beside BLEU.")
    parser.add_argument("model", type=Path, help="model folder")
    parser.add_argument("--other", type=Path, action="append", default=[], help="model folder; repeat it")
    parser.add_argument("--source", type=Path, required=True, help="lines to translate")
    parser.add_argument("--reference", type=Path, required=True, help="their translations")
    parser.add_argument("--beam-size", type=int, default=1)
    parser.add_argument("--lines", type=int, help="only the first so many")
    parser.add_argument("-lc", "--lowercase", action="store_true", help="BLEU does not look at case")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    lines, references = read(options.source, options.lines), read(options.reference, options.lines)
    ways = recipes(options.model, options.other, options.beam_size, lines)
    rows = measure(ways, options.rounds, references, lowercase=options.lowercase)
    show(f"{options.model}, {options.source.name}, beam {options.beam_size}", rows)
    if options.output:
        capability = {"capability": torch.backends.cpu.get_cpu_capability()}
        write_figures(options.output, {"machine": MACHINE | capability, "rows": rows})


if __name__ == "__main__":
    main()
