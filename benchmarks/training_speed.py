"""How fast `transduce train` trains on a processor, beside eole and JoeyNMT: target tokens a second of one thread.

    python benchmarks/training_speed.py --data DATA --peers PYTHON --rounds 5 --core 0 --output training_speed.json
    python benchmarks/training_speed.py --data DATA --only transduce --only "bf16, no dropout"

All train a Transformer of 4 + 4 layers, 128 wide, on multi30k en-de with one vocabulary, one thread each, one after the
other in every round, so that whatever else the machine does meets all of them. A run is measured from one line of its
log to another: after --warmup updates (start-up and first batches are not in it), and --updates later (validation and
checkpoints are not either). Its tokens are target tokens with end tokens and without padding; its seconds are those of
the CPU clock of the process, which other programs do not move, and those of the wall beside them. "of fp32" and "of
bf16" is the share of the fastest matrix product of one core that the model's own operations reach. "padding" is the
share of target places. "times" is the median over the rounds of the ratio to the fastest peer in fp32.

PYTHON is that of a virtual environment which holds eole 0.6.4 and JoeyNMT 2.3.0 beside the same torch. Their pins
exclude it, so they are installed by themselves:

    pip install torch==2.13.0 && pip install --no-deps eole==0.6.4 joeynmt==2.3.0
    pip install aiohttp configargparse ctranslate2 datasets fastapi httpx2 huggingface_hub importlib_metadata matplotlib
    pip install pandas pillow portalocker pyahocorasick pydantic pyonmttok pyyaml requests rich sacrebleu sacremoses six
    pip install safetensors sentencepiece subword-nmt tensorboard tokenizers tqdm uvicorn waitress

Every command is printed before it runs; their configurations (training_tools.py) go to --folder.
"""

import argparse
import operator
import os
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

from quality import REPOSITORY, run
from results_table import MACHINE, Row, show, write_figures

sys.path.insert(0, str(REPOSITORY))

from benchmarks.flops import ModelSizes, best_product, flop_per_target_token
from benchmarks.training_contenders import CONTENDERS, PLAIN, Bench, Counts, Measurement
from benchmarks.training_tools import Precision, Setting, ToolName

Runs = dict[str, list[Measurement]]  # by row
Products = dict[Precision, float]  # operations a CPU-second of the fastest matrix product

LANGUAGES = ("en", "de")
ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
SAME_SIZE = 0.001  # share by which the parameters of the models may differ: a row of the embedding more or less


def prepare(options: argparse.Namespace) -> tuple[Setting, list[tuple[int, int]]]:
    """Learn the vocabulary, and write text and vocabulary as the peers read them.

    Returns:
        The setting, and the tokens of source and target of each pair, end tokens included.
    """
    from tokenizer import Tokenizer
    from transformer_core.config import PRESETS

    raw, folder = options.data / "multi30k" / "raw", options.folder
    train, valid = ((raw / f"{name}.{LANGUAGES[0]}", raw / f"{name}.{LANGUAGES[1]}") for name in ("train", "val"))
    path, tokens, vocabulary = folder / "tokenizer.json", folder / "tokens", folder / "vocabulary.txt"
    if not path.exists():
        sides = ("-i", str(train[0]), "-i", str(train[1]))
        run(["tokenizer", "train", *sides, "-o", str(path), "--vocab-size", "10000"])
    for language, text in zip(LANGUAGES, train, strict=True):
        run(["tokenizer", "encode", "-t", str(path), "-i", str(text), "-o", f"{tokens}.{language}"])
    tokenizer = Tokenizer.load(path)
    entries = tokenizer.tokens(range(5, tokenizer.vocabulary_size))  # the peers have special tokens of their own
    vocabulary.write_text("".join(f"{entry}\n" for entry in entries), encoding="utf-8")
    written = (Path(f"{tokens}.{language}").read_text(encoding="utf-8").split("\n")[:-1] for language in LANGUAGES)
    lengths = [
        (len(source.split(" ")) + 1, len(target.split(" ")) + 1) for source, target in zip(*written, strict=True)
    ]
    tiny = PRESETS["tiny"]
    sizes = ModelSizes(tiny.num_layers, tiny.d_model, tiny.num_heads, tiny.d_ff, tokenizer.vocabulary_size)
    setting = Setting(
        train=train,
        valid=valid,
        tokenizer=path,
        tokens=tokens,
        vocabulary=vocabulary,
        num_pairs=len(lengths),
        sizes=sizes,
        batch_size=options.batch_size,
        warmup=options.warmup,
        updates=options.updates,
        seed=options.seed,
    )
    return setting, lengths


def measure_round(bench: Bench, products: Products, runs: Runs) -> None:
    """Run all contenders once, after the matrix products; add what they reached."""
    with pinned(bench.core):
        for precision in products:
            products[precision] = max(products[precision], best_product(precision))
    for name, measured in runs.items():
        measured.append(bench.measure(name, CONTENDERS[name]))
        sizes = {other: found[0].parameters for other, found in runs.items() if found}
        if max(sizes.values()) > (1 + SAME_SIZE) * min(sizes.values()):
            sys.exit(f"these are not the same model: {sizes}")


@contextmanager
def pinned(core: int | None) -> Iterator[None]:
    """Run this program on one core for a while."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, before if core is None else {core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def rows_of(products: Products, runs: Runs, padding: Mapping[ToolName, Counts], flop: float) -> list[Row]:
    """Make a row of every contender."""
    speeds = {name: [run.target_tokens / run.cpu_seconds for run in measured] for name, measured in runs.items()}
    peers = [name for name in ("eole", "joeynmt") if name in runs]
    fastest = max(peers, key=lambda name: statistics.median(speeds[name]), default=None)
    rows: list[Row] = []
    for name, measured in runs.items():
        speed, counts = statistics.median(speeds[name]), padding[CONTENDERS[name].tool]
        others = [] if fastest is None else speeds[fastest]
        shares = {f"of {precision}": percent(speed * flop / best) for precision, best in products.items()}
        rows.append(
            {
                "row": name,
                "tokens/CPU-s": speed,
                "tokens/s": statistics.median(run.target_tokens / run.wall_seconds for run in measured),
                "times": statistics.median(map(operator.truediv, speeds[name], others)) if others else None,
                **shares,
                "padding": percent(1 - counts["target_tokens"] / counts["target_places"]),
                "peak MB": round(max(run.peak_bytes for run in measured) / 1e6),
                "parameters": measured[0].parameters,
                "runs": " ".join(f"{run_speed:.0f}" for run_speed in speeds[name]),
            }
        )
    return rows


def percent(share: float) -> str:
    """A share for the eye."""
    return f"{100 * share:.1f} %"


def choose(options: argparse.Namespace) -> list[str]:
    """Decide which rows there are: of those asked for, the ones that this machine and this version can run."""
    import torch

    from transformer_core.device import has_fast_bf16

    has_bf16 = has_fast_bf16(torch.device("cpu"))
    names = []
    for name in options.only or [name for name in CONTENDERS if options.variants or name in PLAIN]:
        if CONTENDERS[name].tool != "transduce" and options.peers is None:
            reason = "there are no --peers"
        elif CONTENDERS[name].precision == "bf16" and not has_bf16:
            reason = "this processor has no products in bf16"
        else:
            names.append(name)
            continue
        print(f"without {name}: {reason}", file=sys.stderr)
    return names


def describe_machine(peers: Path | None) -> Row:
    """What the figures hold for."""
    versions = "import importlib.metadata as m; print(*(m.version(name) for name in ('torch', 'eole', 'joeynmt')))"
    found = "" if peers is None else subprocess.check_output([peers, "-c", versions], text=True)
    return MACHINE | dict(zip(("torch of the peers", "eole", "joeynmt"), found.split(), strict=False))


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="How fast training is, beside eole and JoeyNMT.")
    parser.add_argument("--data", type=Path, required=True, help="folder of the corpora")
    parser.add_argument("--peers", type=Path, metavar="PYTHON", help="the Python that has eole and JoeyNMT")
    parser.add_argument("--rounds", type=int, default=5, help="runs of every row")
    parser.add_argument("--warmup", type=int, default=20, help="updates before the window")
    parser.add_argument("--updates", type=int, default=100, help="updates of the window; a multiple of --warmup")
    parser.add_argument("--batch-size", type=int, default=4096, help="tokens of the longer side")
    parser.add_argument("--core", type=int, help="the only one to run on; default: whatever the system says")
    parser.add_argument("--only", choices=CONTENDERS, action="append", help="a row; repeat it")
    parser.add_argument("--variants", action="store_true", help="the rows of single tricks too")
    parser.add_argument("--folder", type=Path, default=Path("training_speed"), help="where text and models go")
    parser.add_argument("--output", type=Path, help="where to write the figures as JSON")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    if options.updates % options.warmup:
        parser.error("--updates must be a multiple of --warmup: there is a log line every --warmup updates")
    options.folder = options.folder.absolute()
    return options


def main() -> None:
    """Measure round after round, print the table and write the JSON after each."""
    os.environ |= ONE_THREAD
    options = parse()
    options.folder.mkdir(parents=True, exist_ok=True)
    names = choose(options)
    setting, lengths = prepare(options)
    flop = flop_per_target_token(setting.sizes, lengths)
    bench = Bench(setting, options.folder, options.peers, options.core)
    figures: Row = {
        **describe_machine(options.peers),
        "core": options.core,
        "warmup": options.warmup,
        "updates": options.updates,
        "batch_size": options.batch_size,
        "sizes": asdict(setting.sizes),
        "target_tokens_of_an_epoch": sum(target for _, target in lengths),
        "flop_per_target_token": flop,
    }
    epochs = {tool: bench.count_epoch(tool) for tool in dict.fromkeys(CONTENDERS[name].tool for name in names)}
    figures["epochs"] = epochs
    if "joeynmt" in epochs and setting.max_steps > epochs["joeynmt"]["batches"]:
        sys.exit(f"JoeyNMT has {epochs['joeynmt']['batches']} batches an epoch, and its window must lie in the first")
    products: Products = dict.fromkeys(sorted({"fp32", *(CONTENDERS[name].precision for name in names)}), 0.0)
    runs: Runs = {name: [] for name in names}
    for number in range(1, options.rounds + 1):
        measure_round(bench, products, runs)
        rows = rows_of(products, runs, epochs, flop)
        best = ", ".join(f"{value / 1e9:.0f} GFLOP/s in {precision}" for precision, value in products.items())
        show(f"round {number} of {options.rounds}; {flop / 1e6:.2f} MFLOP a target token; products: {best}", rows)
        figures |= {"rounds": number, "products": products, "rows": rows}
        figures["measurements"] = {name: [asdict(one) for one in measured] for name, measured in runs.items()}
        if options.output:
            write_figures(options.output, figures)


if __name__ == "__main__":
    main()
