"""Whether killing loses anything: programs are killed at random moments, again and again, and run again until they end.

    python benchmarks/fault_run.py [--folder WORK] [--job train] [--kills 100] [--workers 1] [--output FIGURES.json]

    translate  a file is translated with -o and --resume: the bytes must be those of an output that nobody disturbed
    train      a model is trained: the bits of its weights, best and last, and metrics.jsonl but for its times, must be
               those of a run that nobody disturbed

Each is killed so many times, by SIGKILL, over as many outputs or models as it takes until the kills are used up; most
come soon after something was saved, the others while the program starts. A process of `fork` runs the very program, so
that torch is loaded once and not for each of them. Ends with 1 if anything differs.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

# all that the commands load late, once
import torch._dynamo  # noqa: F401
from results_table import MACHINE, Row, show, write_figures
from small_task import train_small, training_arguments, write_text

from cli.commands import train, translate  # noqa: F401
from cli.main import main as transduce
from transformer_core.decoding.refinement import RefiningTranslator  # noqa: F401
from transformer_core.experiments.train_from_text import train_from_text  # noqa: F401

JOBS = ("translate", "train")
TIMES = ("_seconds", "_per_second")  # what the names of those fields of metrics.jsonl end with that a clock decides
SHARE = 0.05  # of the time of an undisturbed run: the longest that one is let live, once it has got somewhere
EARLY = 0.25  # of the kills come before that, perhaps: while it starts


@dataclass(frozen=True)
class Job:
    """A command that is run until it ends by itself."""

    name: str
    arguments: Callable[[str], list[str]]  # what is run, by the name of its result
    result: Callable[[str], str]  # a hash of what came out
    progress: Callable[[str], int]  # something that grows while it works
    folder: Path


def start(arguments: Sequence[str], log: Path) -> int:
    """Run the program in a process of its own; gives its id."""
    process = os.fork()
    if process:
        return process
    with log.open("ab") as file:
        os.dup2(file.fileno(), 2)
    sys.argv = ["transduce", *arguments]
    try:
        transduce()
    except SystemExit as request:
        os._exit(request.code if isinstance(request.code, int) else 1)
    os._exit(0)


def has_ended(process: int) -> bool:
    """Tell whether a process has come to its end; it still waits to be asked how."""
    return os.waitid(os.P_PID, process, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def finish(process: int, job: Job) -> None:
    """Wait until a process ends well."""
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if code:
        raise SystemExit(f"{job.name} ended with code {code}; see {job.folder / 'log'}")


def disturb(job: Job, kills: int, choose: random.Random) -> Row:
    """Do a job in peace, and then again and again with kills, until there have been so many."""
    log = job.folder / "log"
    started_at = time.monotonic()
    finish(start(job.arguments("peace"), log), job)
    seconds = time.monotonic() - started_at
    expected, num_kills, in_work, results = job.result("peace"), 0, 0, []
    while num_kills < kills:
        name = f"disturbed-{len(results)}"
        while num_kills < kills:
            before = job.progress(name)
            process = start(job.arguments(name), log)
            is_early = choose.random() < EARLY
            while not is_early and job.progress(name) == before and not has_ended(process):
                time.sleep(0.001)
            time.sleep(choose.uniform(0, SHARE * seconds))
            if has_ended(process):
                finish(process, job)
                break
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            num_kills += 1
            in_work += job.progress(name) > before
        finish(start(job.arguments(name), log), job)  # says nothing more where it is complete
        results.append(job.result(name))
        print(f"{job.name}: {num_kills} kills, {len(results)} runs", file=sys.stderr, flush=True)
    same = results.count(expected)
    return {
        "what": job.name,
        "undisturbed s": seconds,
        "kills": num_kills,
        "after progress": in_work,
        "runs": len(results),
        "identical": same,
    }


def translation(folder: Path, num_lines: int, workers: int) -> Job:
    """Translate a file, a window of few lines at a time."""
    model, source = train_small(folder / "small"), write_text(folder / "source", num_lines, seed=2)
    options = ["--beam-size", "3", "--buffer-size", "32", "--threads", "1", "--workers", str(workers), "-qq"]
    common = ["translate", "-m", str(model), "-i", str(source), "--resume", *options]

    def progress(name: str) -> int:
        part = folder / f"{name}.part"
        return part.stat().st_size if part.exists() else 0

    return Job(
        name="translate --resume",
        arguments=lambda name: [*common, "-o", str(folder / name)],
        result=lambda name: hash_of([folder / name]),
        progress=progress,
        folder=folder,
    )


def training(folder: Path, steps: int) -> Job:
    """Train a model that is saved every few steps."""
    common = training_arguments(folder, 5000, steps)

    def result(name: str) -> str:
        weights = hash_of(sorted((folder / name).rglob("*.safetensors")))
        return f"{weights} {hashlib.sha256(metrics_without_times(folder / name).encode()).hexdigest()}"

    def progress(name: str) -> int:
        latest = folder / name / "checkpoints" / "LATEST"
        return int(latest.read_text(encoding="utf-8")[5:]) if latest.exists() else 0

    return Job(
        name="train",
        arguments=lambda name: [*common, "-o", str(folder / name), "-qq"],
        result=result,
        progress=progress,
        folder=folder,
    )


def metrics_without_times(model: Path) -> str:
    """Read the records of metrics.jsonl, but for what a clock decides."""
    records = map(json.loads, (model / "metrics.jsonl").read_text(encoding="utf-8").split("\n")[:-1])
    return json.dumps([{key: value for key, value in each.items() if not key.endswith(TIMES)} for each in records])


def hash_of(paths: Sequence[Path]) -> str:
    """Hash files, at least one."""
    if not paths:
        raise SystemExit("there is nothing to compare")
    return hashlib.sha256(b"".join(hashlib.sha256(path.read_bytes()).digest() for path in paths)).hexdigest()


def main() -> None:
    """Kill, print the table and write the JSON; fail if anything differs."""
    parser = argparse.ArgumentParser(description="Programs that are killed, and what is left of their results.")
    parser.add_argument("--folder", type=Path, default=Path("fault-run"), help="where all is written; must be new")
    parser.add_argument("--job", choices=JOBS, action="append", help="one of them; both if not given")
    parser.add_argument("--kills", type=int, default=100, help="of each")
    parser.add_argument("--workers", type=int, default=1, help="of translate")
    parser.add_argument("--lines", type=int, default=10_000, help="that are translated")
    parser.add_argument("--steps", type=int, default=400, help="of training")
    parser.add_argument("--seed", type=int, default=1, help="of the moments")
    parser.add_argument("--output", type=Path, help="where to write the figures as JSON")
    options = parser.parse_args()
    if options.folder.exists():
        shutil.rmtree(options.folder)
    choose, rows = random.Random(options.seed), []
    for name in options.job or JOBS:
        folder = options.folder / name
        folder.mkdir(parents=True)
        if name == "train":
            job = training(folder, options.steps)
        else:
            job = translation(folder, options.lines, options.workers)
        rows.append(disturb(job, options.kills, choose))
    show(f"{options.kills} times SIGKILL each, seed {options.seed}, {options.workers} worker(s)", rows)
    if options.output:
        figures = {"rows": rows, "seed": options.seed, "workers": options.workers, **MACHINE}
        write_figures(options.output, figures)
    if any(row["identical"] != row["runs"] for row in rows):
        sys.exit("a result is not that of an undisturbed run")


if __name__ == "__main__":
    main()
