"""Whether the translation of a line depends on the lines beside it: other batches, another order, two workers.

    python benchmarks/batch_invariance.py MODEL --source FILE [--ties 3] [--folder WORK] [--output FIGURES.json]

All lines are translated by `transduce translate` in fp32 on the CPU, by beam 5 and greedily: one at a time, and then in
batches of 7 and of 64, in their order and shuffled (and put back in order), by one worker and by two. `differ` counts
the lines that are not, token by token, what they were one at a time. For these both translations are scored again in
float64: if what decides between them differs by less than 1e-5, either may be found, and the line is one of `ties`;
else it is one of `defects`. Ends with 1 if there is a defect, or if a run has more ties than --ties.
"""

import argparse
import json
import random
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from float64_scores import TIE, Float64Scorer
from quality import run
from results_table import MACHINE, Row, show, write_figures

from transformer_core.data.lines import LineReader
from transformer_core.model_directory import load_model

SEARCHES = {"beam 5": ("--beam-size", "5"), "greedy": ("--greedy",)}
RUNTIME = ("--precision", "fp32", "--device", "cpu", "--threads", "1", "--long-input", "truncate", "-q")


@dataclass(frozen=True)
class Arrangement:
    """How the lines are put together."""

    batch_size: int  # lines
    is_shuffled: bool
    workers: int

    def shown(self) -> Row:
        """Say it in a table."""
        order = "shuffled" if self.is_shuffled else "as read"
        return {"batch": self.batch_size, "order": order, "workers": self.workers}


ALONE = Arrangement(1, is_shuffled=False, workers=1)
# one line at a time nothing stands beside it in any order, but two workers may still differ from one
OTHERS = (
    Arrangement(1, is_shuffled=False, workers=2),
    *(Arrangement(*values) for values in product((7, 64), (False, True), (1, 2))),
)

Tokens = list[str]


@dataclass(frozen=True)
class Trial:
    """A model, and the lines that it translates."""

    model: Path
    lines: Sequence[str]
    folder: Path  # for the lines as they are translated
    seed: int  # of the order of shuffled lines

    def translate(self, search: str, arrangement: Arrangement) -> list[Tokens]:
        """Translate all lines; give the tokens of each in the order of the lines."""
        order = list(range(len(self.lines)))
        if arrangement.is_shuffled:
            random.Random(self.seed).shuffle(order)
        path = self.folder / "source"
        path.write_bytes("".join(f"{self.lines[index]}\n" for index in order).encode())
        size = ("--batch-type", "sentences", "--batch-size", str(arrangement.batch_size))
        options = [*SEARCHES[search], *size, "--workers", str(arrangement.workers), *RUNTIME]
        form = ("--format", "jsonl", "--per-token")
        output, _, _ = run(["translate", "-m", str(self.model), "-i", str(path), *options, *form])
        found: dict[int, Tokens] = dict(zip(order, map(_tokens, output.split("\n")[:-1]), strict=True))
        return [found[index] for index in range(len(self.lines))]


def _tokens(line: str) -> Tokens:
    tokens: Tokens = json.loads(line)["tokens"]
    return tokens


def compare(trial: Trial, search: str, scorer: Float64Scorer) -> tuple[list[Row], list[Row]]:
    """Translate in every arrangement; give a row for each, and one for every line that differs."""
    expected, rows, differing = trial.translate(search, ALONE), [], []
    for arrangement in OTHERS:
        found = trial.translate(search, arrangement)
        circumstances: Row = {"search": search, **arrangement.shown()}
        gaps = []
        for number, (line, one, other) in enumerate(zip(trial.lines, expected, found, strict=True), start=1):
            if one != other:
                gaps.append(scorer.gap(line, one, other, is_greedy=search == "greedy"))
                differing.append({**circumstances, "line": number, "gap": gaps[-1], "alone": one, "found": other})
        ties = sum(gap < TIE for gap in gaps)
        counts = {"lines": len(found), "differ": len(gaps), "ties": ties, "defects": len(gaps) - ties}
        rows.append({**circumstances, **counts, "largest gap": max(gaps, default=None)})
    return rows, differing


def main() -> None:
    """Print the table and write the JSON; fail if a line is what it should not be."""
    parser = argparse.ArgumentParser(description="The same line in other batches.")
    parser.add_argument("model", type=Path)
    parser.add_argument("--source", type=Path, required=True, help="lines to translate")
    parser.add_argument("--lines", type=int, help="only the first so many")
    parser.add_argument("--search", choices=SEARCHES, action="append", help="one of them; both if not given")
    parser.add_argument("--ties", type=int, default=0, help="that a run may have")
    parser.add_argument("--seed", type=int, default=1, help="of the order of shuffled lines")
    parser.add_argument("--folder", type=Path, default=Path("batch-invariance"), help="where shuffled lines go")
    parser.add_argument("--output", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    with LineReader(options.source) as reader:
        trial = Trial(options.model, list(reader)[: options.lines], options.folder, options.seed)
    scorer = Float64Scorer(load_model(options.model).tagged(None))
    rows: list[Row] = []
    differing: list[Row] = []
    for search in options.search or SEARCHES:
        of_search, lines = compare(trial, search, scorer)
        rows += of_search
        differing += lines
    show(f"{options.model}, {options.source.name}: lines that are not what they were alone", rows)
    for row in differing:
        print(f"\n{row['search']}, line {row['line']}, gap {row['gap']}\n  {row['alone']}\n  {row['found']}")
    if options.output:
        figures = {"rows": rows, "differing": differing, "seed": options.seed, **MACHINE}
        write_figures(options.output, figures)
    if any(row["defects"] for row in rows):
        sys.exit("the translation of a line depends on the lines beside it")
    if any(int(str(row["ties"])) > options.ties for row in rows):
        sys.exit(f"there are more ties than {options.ties}")


if __name__ == "__main__":
    main()
