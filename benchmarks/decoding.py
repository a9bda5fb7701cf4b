"""Decoding beside CTranslate2 or `transformers`: the same weights and search, one thread, one after the other in turn.

    python benchmarks/decoding.py MODEL --source FILE [--reference FILE] [--search greedy] [--precision int8] ...

    greedy    all lines at once, greedy
    beam      all lines at once, beam 5, with CTranslate2's rule for the end of a search
    lines     greedy, one line at a time

MODEL (trained with `--positions sinusoidal`) is exported (`transduce export`), so nothing differs but who computes;
`--widened` writes it into Opus-MT's shape first (widened_model.py). All get the same tokens and may write as many; we
and CTranslate2 get the better of two batch sizes, found beforehand on the same lines, `transformers` batches of 64
lines, the longest first. The figures are CPU-seconds of this process, medians of the rounds; `ratio` is the other's
time by ours, the median of the rounds (above 1 we are faster). `same` counts lines with identical tokens. Needs the
extras `ctranslate2` and `huggingface`.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Literal

from cli.main import LIBRARY_SETTINGS

os.environ |= {"OMP_NUM_THREADS": "1", **LIBRARY_SETTINGS}  # read when torch and CTranslate2 are loaded

import torch
from decoding_peers import BATCH_SIZES, Tokens, by_ctranslate2, by_transformers
from results_table import MACHINE, Row, show, write_figures
from widened_model import widened

from transformer_core.decoding.config import BatchConfig, SearchConfig
from transformer_core.decoding.translator import Translator
from transformer_core.evaluation.metrics import MetricOptions, evaluate_corpus
from transformer_core.model_directory import LoadedModel, load_model

Search = Literal["greedy", "beam", "lines"]
SEARCHES: tuple[Search, ...] = ("greedy", "beam", "lines")
PEERS = ("ctranslate2", "transformers")
PRECISIONS = ("fp32", "bf16", "fp16", "int8")
OUR_BATCH_SIZES = (4096, 16384)  # tokens
Translate = Callable[[], Tokens]


@dataclass(frozen=True)
class Contest:
    """What both do."""

    loaded: LoadedModel
    folder: Path  # of the exported models
    lines: Sequence[str]
    search: Search
    precision: Literal["fp32", "bf16", "fp16", "int8"]  # 16 bits are ours alone: CTranslate2 then computes in fp32
    max_length: int  # tokens of a translation

    @property
    def beam_size(self) -> int:
        """One, but for beam search."""
        return 5 if self.search == "beam" else 1

    def ours(self) -> list[Translate]:
        """Make ready, in each of the ways that may be the fastest; each call translates all lines."""
        config = SearchConfig(
            beam_size=self.beam_size,
            early_stopping=True,
            max_length=self.max_length,
            max_length_ratio=1000,
            scores=False,
        )
        tokenizers = self.loaded.source_tokenizer, self.loaded.target_tokenizer
        batches = [[line] for line in self.lines] if self.search == "lines" else [self.lines]

        def translate(translator: Translator) -> Tokens:
            return [list(found.hypotheses[0].token_ids) for batch in batches for found in translator.translate(batch)]

        sizes = [None] if self.search == "lines" else list(OUR_BATCH_SIZES)
        batchings = [BatchConfig(precision=self.precision, batch_size=size) for size in sizes]
        return [
            partial(translate, Translator(self.loaded.model, *tokenizers, config, batching)) for batching in batchings
        ]

    def theirs(self, peer: str) -> list[Translate]:
        """The same by another, in each of the ways that may be its fastest."""
        if peer == "transformers":
            translate = by_transformers(self.loaded, self.folder / peer, self.beam_size, self.max_length)
            if self.search == "lines":
                return [lambda: [tokens for line in self.lines for tokens in translate([line])]]
            return [partial(translate, self.lines)]
        precision = "int8" if self.precision == "int8" else "fp32"
        size = self.beam_size, self.max_length
        batchings = [None] if self.search == "lines" else list(BATCH_SIZES)
        return [
            partial(by_ctranslate2(self.loaded, self.folder / peer, precision, *size, batching), self.lines)
            for batching in batchings
        ]


def timed(translate: Callable[[], Tokens]) -> tuple[Tokens, float]:
    """Translate, and give the CPU-seconds that it took."""
    started_at = time.process_time()
    return translate(), time.process_time() - started_at


def fastest(ways: Sequence[Translate]) -> Translate:
    """Try each, and choose."""
    for translate in ways:
        translate()  # warms up what is made when it is first needed
    return ways[0] if len(ways) == 1 else min(ways, key=lambda translate: timed(translate)[1])


def compete(contest: Contest, peer: str, rounds: int, references: Sequence[str] | None) -> Row:
    """Let both translate in turn."""
    ours, theirs = fastest(contest.ours()), fastest(contest.theirs(peer))
    our_tokens, their_tokens = ours(), theirs()
    seconds = [(timed(ours)[1], timed(theirs)[1]) for _ in range(rounds)]
    our_seconds, their_seconds = (statistics.median(side) for side in zip(*seconds, strict=True))
    num_tokens = sum(len(tokens) + 1 for tokens in our_tokens)
    row: Row = {
        "peer": peer,
        "search": contest.search,
        "precision": contest.precision,
        "lines": len(contest.lines),
        "same": sum(one == other for one, other in zip(our_tokens, their_tokens, strict=True)),
        "ours s": our_seconds,
        "theirs s": their_seconds,
        "ratio": statistics.median(theirs / ours for ours, theirs in seconds),
        "lines/s": len(contest.lines) / our_seconds,
        "tokens/s": num_tokens / our_seconds,
        "ratios": " ".join(f"{theirs / ours:.2f}" for ours, theirs in seconds),
    }
    if references is not None:
        tokenizer = contest.loaded.target_tokenizer
        options = MetricOptions(lowercase=tokenizer.config.lowercase)
        for name, tokens in (("our BLEU", our_tokens), ("their BLEU", their_tokens)):
            row[name] = evaluate_corpus(tokenizer.decode_batch(tokens), [list(references)], ["bleu"], options)[0].value
    return row


def read(path: Path, count: int | None) -> list[str]:
    """Read the first lines of a file."""
    return path.read_text(encoding="utf-8").split("\n")[:-1][:count]


def main() -> None:
    """Measure what is asked for, print a table and write the JSON."""
    parser = argparse.ArgumentParser(description="Decoding beside CTranslate2, the same weights.")
    parser.add_argument("model", type=Path, help="model folder")
    parser.add_argument("--source", type=Path, required=True, help="lines to translate")
    parser.add_argument("--reference", type=Path, help="their translations, for BLEU")
    parser.add_argument("--search", choices=SEARCHES, action="append", help="one of them; repeat it; all if not given")
    parser.add_argument("--precision", choices=PRECISIONS, action="append", help="the same; fp32 if not given")
    parser.add_argument("--peer", choices=PEERS, default="ctranslate2")
    parser.add_argument("--widened", action="store_true", help="in Opus-MT's shape")
    parser.add_argument("--lines", type=int, help="only the first so many")
    parser.add_argument("--single-lines", type=int, default=100, help="lines of the search `lines`")
    parser.add_argument("--max-length", type=int, default=256, help="tokens of a translation")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    loaded = load_model(options.model)
    if options.widened:
        loaded = widened(loaded)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for precision in options.precision or ["fp32"]:
            for search in options.search or SEARCHES:
                count = options.single_lines if search == "lines" else options.lines
                lines = read(options.source, count)
                contest = Contest(loaded, Path(temporary), lines, search, precision, options.max_length)
                references = None if options.reference is None else read(options.reference, len(lines))
                rows.append(compete(contest, options.peer, options.rounds, references))
                show(f"{options.model}{' widened' if options.widened else ''}, {options.source.name}", rows)
    if options.output:
        capability = {"capability": torch.backends.cpu.get_cpu_capability()}
        versions = {name: metadata.version(name) for name in PEERS}
        write_figures(options.output, {"machine": MACHINE | capability | versions, "rows": rows})


if __name__ == "__main__":
    main()
