"""What models teach a model of their own size: data diversification (Nguyen et al. 2020) with the headline recipe.

    python benchmarks/diversified.py --data DATA [--forward 2 --forward 3] [--backward 1] [--seed 1] [--folder WORK]

A model learns from the pairs, from what models of the same recipe translate of their sources, and from what models of
the other direction translate of their targets. All of them see the same 29 thousand captions and nothing else. Teachers
are trained where WORK lacks them (WORK/multi30k and WORK/multi30k-de-en hold what benchmarks/headlines.py makes).
Validation pairs and test2016 are scored as there.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from headlines import RECIPES, Attempt, show_with_means, words
from quality import run
from results_table import Row, keep_row

FORWARD, BACKWARD = "multi30k", "multi30k-de-en"
# A source comes with several targets, which does what R-Drop does: its time is better spent on more updates.
OF_STUDENTS = "--r-drop 0 --max-epochs 24"


def translated(teacher: Attempt) -> Path:
    """Give what a teacher makes of the sources of the training text; what is there already is taken as it is."""
    source, target = teacher.pair(teacher.recipe.train)
    path = teacher.folder / f"train-{teacher.seed}{target.suffix}"
    if not path.exists():
        if not is_trained(teacher.model):
            teacher.learn()
        run(["translate", "-m", str(teacher.model), "-i", str(source), "-o", str(path), *teacher.recipe.search])
    return path


def is_trained(model: Path) -> bool:
    """Tell whether a model folder is complete, be it made by more processes or by fewer."""
    record = model / "metadata.json"
    return record.exists() and json.loads(record.read_text(encoding="utf-8"))["training"]["is_finished"]


def main() -> None:
    """Train the teachers, let them translate, train students; add their rows to the file, print all of them."""
    parser = argparse.ArgumentParser(description="What models teach a model of their own size.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--forward", type=int, action="append", default=[], help="seed of a teacher; repeat it")
    parser.add_argument("--backward", type=int, action="append", default=[], help="of one of the other direction")
    parser.add_argument("--more", default=OF_STUDENTS, help="options of `train` beside the recipe's, as one word")
    parser.add_argument("--processes", type=int, choices=(1, 2), default=2, help="one computes the same as two")
    parser.add_argument("--seed", type=int, action="append", help="of a student; repeat it; 1 if not given")
    parser.add_argument("--folder", type=Path, default=Path("diversified"), help="where the models go")
    parser.add_argument("--output", type=Path, default=Path("diversified.json"), help="rows are added to this file")
    options = parser.parse_args()

    def attempt(name: str, folder: str, seed: int, **values: Any) -> Attempt:  # noqa: ANN401
        place = {"data": options.data, "folder": options.folder / folder, "processes": options.processes}
        return Attempt(recipe=RECIPES[name], seed=seed, **place, **values)

    source, target = attempt(FORWARD, FORWARD, 1).pair(RECIPES[FORWARD].train)
    beside = [
        *((source, translated(attempt(FORWARD, FORWARD, seed))) for seed in options.forward),
        *((translated(attempt(BACKWARD, BACKWARD, seed)), target) for seed in options.backward),
    ]
    more, rows = words(options.more), list[Row]()
    for seed in options.seed or [1]:
        row = attempt(FORWARD, "student", seed, more=more, beside=beside).measure()
        row |= {"forward": options.forward, "backward": options.backward}
        rows = keep_row(options.output, row, ("seed", "options", "forward", "backward"))
    show_with_means("diversified", rows)


if __name__ == "__main__":
    main()
