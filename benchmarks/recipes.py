"""Which options of training reach most in a given number of updates: screened on the validation pairs of multi30k.

    python benchmarks/recipes.py --data DATA [--recipe cosine] [--epochs 6] [--seed 1] [--output recipes.json]

Every recipe trains a model of `--arch tiny` from English to German with the same tokenizer, for as many passes over the
pairs, and is judged by loss and greedy BLEU on the validation pairs alone; nothing here looks at a test set. A recipe
is what its name says, and else the defaults of `train`. Results are added to those that the file holds already, one row
for each recipe, length and seed. A folder of an interrupted run is gone on with.
"""

import argparse
import json
import os
from pathlib import Path

from quality import TASKS, run
from results_table import MACHINE, Row, keep_row

RMS = ("--norm-kind", "rms")
SWIGLU = ("--feed-forward", "swiglu", "--ffn-dim", "171")  # three matrices of two thirds: as many parameters
SINUSOIDAL = ("--positions", "sinusoidal")
COSINE = ("--lr-schedule", "cosine")
ADAMW = ("--optimizer", "adamw")
FIRST = (*COSINE, *SINUSOIDAL, *ADAMW)  # the defaults of the first version
WU = ("--norm", "last", *ADAMW, "--lr", "0.005", "--lr-schedule", "inverse-sqrt", "--warmup-steps", "2000")
RECIPES: dict[str, tuple[str, ...]] = {
    # rotary positions; Muon at a rate of 0.0039, embeddings at twice that; warm-up, stable, decay; dropout of 0.3
    "defaults": (),
    "adamw": ADAMW,
    "adamw 2e-3": (*ADAMW, "--lr", "0.002"),
    "adamw 8e-3": (*ADAMW, "--lr", "0.008"),
    "adamw, embeddings x 3": (*ADAMW, "--embedding-lr-factor", "3"),
    "muon 2e-3": ("--lr", "0.002"),
    "muon 8e-3": ("--lr", "0.008"),
    "embeddings x 1": ("--embedding-lr-factor", "1"),
    "embeddings x 3": ("--embedding-lr-factor", "3"),
    "rms": RMS,
    "swiglu": SWIGLU,
    "rms, swiglu": (*RMS, *SWIGLU),
    "query-key norm": ("--query-key-norm",),
    "rms, swiglu, query-key norm": (*RMS, *SWIGLU, "--query-key-norm"),
    "norm last": ("--norm", "last"),
    "norm last, adamw, inverse-sqrt, batches of 8k": (*WU, "--accumulate", "2"),
    "cosine": COSINE,
    "linear": ("--lr-schedule", "linear"),
    "inverse-sqrt": ("--lr-schedule", "inverse-sqrt"),
    "ema 0.999": ("--ema-decay", "0.999"),
    "batches of 2k": ("--batch-size", "2048"),
    "batches of 8k": ("--accumulate", "2"),
    "batches of 2k, then 8k": ("--batch-size", "2048", "--accumulate", "4", "--batch-warmup-steps", "400"),
    "dropout 0.2": ("--dropout", "0.2"),
    "dropout 0.1": ("--dropout", "0.1"),
    "dropout 0.1 to 0.3": ("--dropout", "0.1", "--final-dropout", "0.3"),
    "attention dropout 0.1": ("--attention-dropout", "0.1"),
    "weight decay 0.05": ("--weight-decay", "0.05"),
    "bpe-dropout 0.05": ("--bpe-dropout", "0.05"),
    "bpe-dropout 0.1": ("--bpe-dropout", "0.1"),
    "unigram": ("--unigram-alpha", "1000"),  # always the best cut
    "unigram, alpha 0.2": ("--unigram-alpha", "0.2"),
    "r-drop 1": ("--r-drop", "1"),
    "r-drop 3": ("--r-drop", "3"),
    "r-drop 5": ("--r-drop", "5"),
    "6 + 2 layers": ("--arch", "tiny-6-2"),
    "6 + 2 layers, ssru": ("--arch", "tiny-6-2", "--decoder-mixer", "ssru"),
    "6 + 2 layers, ssru, rotary": ("--arch", "tiny-6-2", "--decoder-mixer", "ssru", "--positions", "rotary"),
    "one decoder layer, four times": ("--share-layers", "decoder"),
    "decoder feed-forward of 64": ("--dec-ffn-dim", "64"),
    "cosine, swiglu": (*COSINE, *SWIGLU),
    "cosine, rms, swiglu": (*COSINE, *RMS, *SWIGLU),
    "cosine, query-key norm": (*COSINE, "--query-key-norm"),
    "cosine, sinusoidal": (*COSINE, *SINUSOIDAL),
    "cosine, sinusoidal, rms": (*COSINE, *SINUSOIDAL, *RMS),
    "cosine, sinusoidal, norm last": (*COSINE, *SINUSOIDAL, "--norm", "last"),
    "cosine, sinusoidal, adamw": FIRST,
    "cosine, sinusoidal, adamw, 6 + 2 layers": (*FIRST, "--arch", "tiny-6-2"),
    "cosine, sinusoidal, adamw, 6 + 2 layers, ssru": (*FIRST, "--arch", "tiny-6-2", "--decoder-mixer", "ssru"),
    "cosine, sinusoidal, adamw, one decoder layer, four times": (*FIRST, "--share-layers", "decoder"),
    "cosine, sinusoidal, adamw, decoder feed-forward of 64": (*FIRST, "--dec-ffn-dim", "64"),
}
TASK = TASKS["multi30k"]


def screen(data: Path, folder: Path, name: str, epochs: int, common: list[str]) -> Row:
    """Train one recipe; score its translation of the validation pairs."""
    kind = "unigram" if "--unigram-alpha" in RECIPES[name] else "bpe"
    tokenizer = folder / f"{kind}.json"
    train, valid = ([str(data / side) for side in sides] for sides in (TASK.train, TASK.valid or ()))
    if not tokenizer.exists():
        learned = ["-o", str(tokenizer), "--kind", kind, *TASK.tokenizer]
        run(["tokenizer", "train", "-i", train[0], "-i", train[1], *learned])
    model = folder / "-".join([name.replace(", ", "-").replace(" ", "-"), str(epochs), common[-1]])
    pairs = ["-s", train[0], "-t", train[1], "--valid-src", valid[0], "--valid-tgt", valid[1]]
    options = ["--tokenizer", str(tokenizer), "--max-epochs", str(epochs), "--patience", "0", *TASK.options]
    run(["train", *pairs, *options, "-o", str(model), *RECIPES[name], *common])
    hypotheses = model.with_suffix(".hyp")
    run(["translate", "-m", str(model), "-i", valid[0], "-o", str(hypotheses), "--greedy", *common[:2]])
    scores, _, _ = run(["evaluate", valid[1], "-i", str(hypotheses), *TASK.metrics, "--json"])
    training = json.loads((model / "metadata.json").read_text(encoding="utf-8"))["training"]
    return {
        "recipe": name,
        "options": " ".join(RECIPES[name]),
        "epochs": epochs,
        "seed": int(common[-1]),
        "valid loss": training["validation"]["loss"],
        "valid BLEU": json.loads(scores.splitlines()[0])["score"],
        "steps": training["steps"],
        "seconds": training["seconds"],
        "target tokens": training["target_tokens"],
        **MACHINE,
    }


def show(rows: list[Row]) -> None:
    """Print the table, the best loss first within each length."""
    line = "{recipe:<42}{epochs:>7}{seed:>5}{valid loss:>12.4f}{valid BLEU:>12.2f}{steps:>7}{seconds:>9.0f}"
    print("recipe".ljust(42), "epochs seed  valid loss  valid BLEU  steps  seconds")
    for row in sorted(rows, key=lambda row: (str(row["epochs"]).rjust(4), float(str(row["valid loss"])))):
        print(line.format_map(row))


def main() -> None:
    """Screen what is asked for, add the rows to the file, print all of them."""
    parser = argparse.ArgumentParser(description="Recipes of training, screened.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--recipe", choices=RECIPES, action="append", help="repeat it; all if not given")
    parser.add_argument("--epochs", type=int, default=6, help="passes over the pairs")
    parser.add_argument("--seed", type=int, action="append", help="repeat it; 1 if not given")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="processor threads")
    parser.add_argument("--folder", type=Path, default=Path("recipes"), help="where the models go")
    parser.add_argument("--output", type=Path, default=Path("recipes.json"), help="rows are added to this file")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    for seed in options.seed or [1]:
        for name in options.recipe or RECIPES:
            common = ["--threads", str(options.threads), "--seed", str(seed)]
            row = screen(options.data, options.folder, name, options.epochs, common)
            show(keep_row(options.output, row, ("recipe", "epochs", "seed")))


if __name__ == "__main__":
    main()
