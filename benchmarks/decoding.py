"""Decoding beside CTranslate2: the same weights, the same search, one thread each, one after the other in turn.

    python benchmarks/decoding.py MODEL --source FILE [--reference FILE] [--search greedy] [--precision int8] ...

    greedy    all lines at once, greedy
    beam      all lines at once, beam 5, with CTranslate2's rule for the end of a search
    lines     greedy, one line at a time

MODEL is exported for CTranslate2 (`transduce export`), so nothing differs but who computes. Both get the same tokens
and may write as many; CTranslate2 gets the better of two batch sizes, found beforehand on the same lines. The figures
are CPU-seconds of this process, medians of the rounds; `ratio` is CTranslate2's time by ours, the median of the rounds
(above 1 we are faster). `same` counts lines with identical tokens. Needs the extra `ctranslate2`.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

os.environ["OMP_NUM_THREADS"] = "1"  # read when torch and CTranslate2 are loaded

import ctranslate2
import torch
from results_table import Row, show

from transformer_core.conversion.export_ctranslate2 import export_ctranslate2
from transformer_core.decoding.config import BatchConfig, SearchConfig
from transformer_core.decoding.translator import Translator
from transformer_core.evaluation.metrics import evaluate_corpus
from transformer_core.model_directory import LoadedModel, load_model

Tokens = list[list[int]]
Search = Literal["greedy", "beam", "lines"]
SEARCHES: tuple[Search, ...] = ("greedy", "beam", "lines")
COMPUTE_TYPES = {"fp32": "float32", "int8": "int8"}
BATCH_SIZES = ((3000, "tokens"), (32, "examples"))  # of CTranslate2: the best ones for large and for small models


@dataclass(frozen=True)
class Contest:
    """What both do."""

    loaded: LoadedModel
    folder: Path  # the model as CTranslate2 reads it
    lines: Sequence[str]
    search: Search
    precision: Literal["fp32", "int8"]
    max_length: int  # tokens of a translation

    def ours(self) -> Callable[[], Tokens]:
        """Make ready; each call translates all lines."""
        beam_size = 5 if self.search == "beam" else 1
        config = SearchConfig(
            beam_size=beam_size, early_stopping=True, max_length=self.max_length, max_length_ratio=1000, scores=False
        )
        tokenizers = self.loaded.source_tokenizer, self.loaded.target_tokenizer
        translator = Translator(self.loaded.model, *tokenizers, config, BatchConfig(precision=self.precision))
        batches = [[line] for line in self.lines] if self.search == "lines" else [self.lines]
        return lambda: [
            list(found.hypotheses[0].token_ids) for batch in batches for found in translator.translate(batch)
        ]

    def theirs(self, batch_size: int, batch_type: str) -> Callable[[], Tokens]:
        """The same by CTranslate2."""
        translator = ctranslate2.Translator(
            str(self.folder), compute_type=COMPUTE_TYPES[self.precision], inter_threads=1, intra_threads=1
        )
        names = json.loads(next(self.folder.glob("*_vocabulary.json")).read_text(encoding="utf-8"))
        ids = {name: index for index, name in enumerate(names)}
        options = {"beam_size": 5 if self.search == "beam" else 1, "max_decoding_length": self.max_length}
        batching = {} if self.search == "lines" else {"max_batch_size": batch_size, "batch_type": batch_type}

        def translate() -> Tokens:
            sources = [
                [names[index] for index in line] for line in self.loaded.source_tokenizer.encode_batch(self.lines)
            ]
            batches = [[source] for source in sources] if self.search == "lines" else [sources]
            return [
                [ids[token] for token in found.hypotheses[0]]
                for batch in batches
                for found in translator.translate_batch(batch, max_input_length=0, **options, **batching)
            ]

        return translate


def timed(translate: Callable[[], Tokens]) -> tuple[Tokens, float]:
    """Translate, and give the CPU-seconds that it took."""
    started_at = time.process_time()
    return translate(), time.process_time() - started_at


def compete(contest: Contest, rounds: int, references: Sequence[str] | None) -> Row:
    """Let both translate in turn."""
    ours = contest.ours()
    candidates = [contest.theirs(*size) for size in BATCH_SIZES[: 1 if contest.search == "lines" else None]]
    our_tokens, _ = timed(ours)  # also warms up what is made when it is first needed
    theirs = min(candidates, key=lambda translate: timed(translate)[1])
    their_tokens = theirs()
    seconds = [(timed(ours)[1], timed(theirs)[1]) for _ in range(rounds)]
    our_seconds, their_seconds = (statistics.median(side) for side in zip(*seconds, strict=True))
    num_tokens = sum(len(tokens) + 1 for tokens in our_tokens)
    row: Row = {
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
        for name, tokens in (("our BLEU", our_tokens), ("their BLEU", their_tokens)):
            texts = contest.loaded.target_tokenizer.decode_batch(tokens)
            row[name] = evaluate_corpus(texts, [list(references)], ["bleu"])[0].value
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
    parser.add_argument("--precision", choices=COMPUTE_TYPES, action="append", help="the same; fp32 if not given")
    parser.add_argument("--lines", type=int, help="only the first so many")
    parser.add_argument("--single-lines", type=int, default=100, help="lines of the search `lines`")
    parser.add_argument("--max-length", type=int, default=256, help="tokens of a translation")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args()
    torch.set_num_threads(1)
    loaded = load_model(options.model)
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "ctranslate2")
        export_ctranslate2(loaded, folder)
        for precision in options.precision or ["fp32"]:
            for search in options.search or SEARCHES:
                count = options.single_lines if search == "lines" else options.lines
                lines = read(options.source, count)
                contest = Contest(loaded, folder, lines, search, precision, options.max_length)
                references = None if options.reference is None else read(options.reference, len(lines))
                rows.append(compete(contest, options.rounds, references))
                show(f"{options.model}, {options.source.name}", rows)
    if options.output:
        machine = {
            "processor": platform.machine(),
            "capability": torch.backends.cpu.get_cpu_capability(),
            "torch": metadata.version("torch"),
            "ctranslate2": metadata.version("ctranslate2"),
        }
        options.output.write_text(json.dumps({"machine": machine, "rows": rows}, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
