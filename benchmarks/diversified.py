"""What models teach a model of their own size: data diversification (Nguyen et al. 2020) with the headline recipe.

    python benchmarks/diversified.py --data DATA [--forward 2 --forward 3] [--backward 1] [--seed 1] [--folder WORK]

A model learns from the pairs, from what models of the same recipe translate of their sources, and from what models of
the other direction translate of their targets. All of them see the same 29 thousand captions and nothing else. Teachers
are trained where WORK lacks them (WORK/multi30k and WORK/multi30k-de-en hold what benchmarks/headlines.py makes). The
length of training is the student's own (--epochs, of all pairs). Validation pairs and test2016 are scored as there.
"""

import argparse
import json
from pathlib import Path

from headlines import RECIPES, Recipe, learn, measure, show_with_means, words
from quality import run
from results_table import Row, keep_row

FORWARD, BACKWARD = "multi30k", "multi30k-de-en"


def translated(name: str, seed: int, data: Path, folder: Path, processes: int) -> Path:
    """Give what a teacher makes of the training text; what is there already is taken as it is."""
    recipe: Recipe = RECIPES[name]
    source, target = recipe.pair(data, recipe.train)
    path, model = folder / name / f"train-{seed}{target.suffix}", folder / name / f"model-{seed}"
    if path.exists():
        return path
    if not is_trained(model):
        learn(recipe, processes, data, folder / name, seed)
    run(["translate", "-m", str(model), "-i", str(source), "-o", str(path), *recipe.search])
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
    parser.add_argument("--epochs", type=int, default=25, help="over all pairs")
    parser.add_argument("--processes", type=int, choices=(1, 2), default=2, help="one computes the same as two")
    parser.add_argument("--seed", type=int, action="append", help="of a student; repeat it; 1 if not given")
    parser.add_argument("--folder", type=Path, default=Path("diversified"), help="where the models go")
    parser.add_argument("--output", type=Path, default=Path("diversified.json"), help="rows are added to this file")
    options = parser.parse_args()
    recipe, rows = RECIPES[FORWARD], list[Row]()
    source, target = recipe.pair(options.data, recipe.train)
    beside = [
        *(
            (source, translated(FORWARD, seed, options.data, options.folder, options.processes))
            for seed in options.forward
        ),
        *(
            (translated(BACKWARD, seed, options.data, options.folder, options.processes), target)
            for seed in options.backward
        ),
    ]
    for seed in options.seed or [1]:
        more = words(f"--max-epochs {options.epochs}")
        row = measure(recipe, options.processes, options.data, options.folder / "student", seed, more, beside)
        row |= {"forward": options.forward, "backward": options.backward}
        rows = keep_row(options.output, row, ("seed", "options", "forward", "backward"))
    show_with_means("diversified", rows)


if __name__ == "__main__":
    main()
