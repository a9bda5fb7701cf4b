"""Damaged and hostile files for every reader: whatever is in them, one line and its exit code, or success.

    pip install atheris          (optional: inputs are then chosen by the code that they reach)
    python benchmarks/fuzz.py [--seconds 60] [--output fuzz.json] [--findings fuzz-findings] [TARGET ...]

Every target (fuzz_targets.py) runs in a process of its own, which may take so much memory and no more beyond what it
has when the first input comes (RLIMIT_AS), and so many CPU-seconds an input. A finding is an exception that is not
one of the project's own, a command that ends with another exit code than it may, an input that takes too long or too
much, or the end of the process. Every new kind of finding leaves its input and its traceback.
"""

import argparse
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY))

MEMORY_BYTES = 1 << 29  # that an input may take
SLOW_SECONDS = 5.0  # of the CPU for an input
HANGS_SECONDS = 120  # for an input, by the wall clock
MAX_STARTS = 20  # of a target whose process ends before its time


@dataclass
class Tally:
    """What came of a target."""

    target: str
    engine: str = "mutations"
    num_inputs: int = 0
    num_refused: int = 0  # with an error of the project's own
    cpu_seconds: float = 0.0
    slowest_seconds: float = 0.0
    findings: dict[str, str] = field(default_factory=dict)  # the file of the first input of each kind


def work(name: str, cpu_seconds: float, seed: int, prepared: Path, folder: Path) -> None:
    """Feed one target until its CPU time is over.

    Args:
        name: of the target.
        cpu_seconds: that it has, what it takes to begin included.
        seed: of the mutations.
        prepared: the folder that `prepare` has filled; what is fed is written there too.
        folder: where tally.json and the inputs that fail go.
    """
    with _instrumented() as fuzzer:
        import cli.main  # noqa: F401 - so that its modules are instrumented too
        from benchmarks.fuzz_targets import TARGETS
    target = TARGETS[name]
    tally = Tally(name, engine="atheris" if fuzzer else "mutations")
    seeds = list(target.seeds(prepared))
    feed = Feeder(target.run, prepared, folder, tally, cpu_seconds)
    for content in seeds:  # loads what is loaded late, and good files must pass
        feed(content)
    feed.slow_seconds = SLOW_SECONDS
    _limit_memory()
    if fuzzer is None:
        source = random.Random(seed)
        while True:
            content = source.choice(seeds)
            for _ in range(source.choice((1, 1, 2, 3))):
                content = target.mutate(content, source)
            feed(content)
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, content in enumerate(seeds):
        (corpus / str(number)).write_bytes(content)

    def mutate(data: bytes, max_size: int, seed: int) -> bytes:
        try:
            return target.mutate(data, random.Random(seed))[:max_size]
        except MemoryError:  # the limit is meant for the target
            return data[:max_size]

    largest = 4 * max(map(len, seeds)) + 20_000
    options = [f"-seed={seed}", f"-max_len={largest}", f"-timeout={HANGS_SECONDS}", "-rss_limit_mb=0", "-verbosity=0"]
    fuzzer.Setup([sys.argv[0], *options, f"-artifact_prefix={folder}/", str(corpus)], feed, custom_mutator=mutate)
    fuzzer.Fuzz()


class Feeder:
    """Feeds a target with one input after the other, and keeps what goes wrong."""

    def __init__(
        self, run: Callable[[bytes, Path], None], scratch: Path, folder: Path, tally: Tally, cpu_seconds: float
    ) -> None:
        from tokenizer import TokenizerFileError
        from transformer_core.errors import DataError, ModelError

        self.own = (DataError, ModelError, TokenizerFileError)
        self.run, self.scratch, self.folder = run, scratch, folder
        self.tally, self.cpu_seconds, self.told_at = tally, cpu_seconds, 0.0
        self.slow_seconds = float("inf")  # while modules are still loaded

    def __call__(self, content: bytes) -> None:
        """Run the target once; ends the process when its time is over."""
        (self.folder / "running").write_bytes(content)
        began = time.process_time()
        try:
            self.run(content, self.scratch)
        except self.own as error:
            self.tally.num_refused += 1
            if len(str(error)) > 3000:
                self._find("a message of more than 3000 characters", str(error)[:200], content)
        except BaseException as error:
            self._find(_kind(error), traceback.format_exc(), content)
        seconds = time.process_time() - began
        self.tally.num_inputs += 1
        self.tally.slowest_seconds = max(self.tally.slowest_seconds, seconds)
        if seconds > self.slow_seconds:
            self._find("slow", f"{seconds:.1f} CPU-seconds", content)
        if time.process_time() - self.told_at > 1:
            self.tell()
        if time.process_time() > self.cpu_seconds:
            self.tell()
            os._exit(0)

    def tell(self) -> None:
        """Write how far it is."""
        self.told_at = self.tally.cpu_seconds = time.process_time()
        (self.folder / "tally.json").write_text(json.dumps(asdict(self.tally)), encoding="utf-8")

    def _find(self, kind: str, details: str, content: bytes) -> None:
        if kind not in self.tally.findings:
            name = f"{self.tally.target.replace(' ', '-')}-{sha256(kind.encode()).hexdigest()[:8]}"
            self.tally.findings[kind] = name
            (self.folder / name).write_bytes(content)
            (self.folder / f"{name}.txt").write_text(
                f"{kind}\n\n{details}", encoding="utf-8", errors="backslashreplace"
            )
            self.tell()


class _instrumented:
    """Import with atheris watching, where it is installed; gives atheris or None."""

    def __enter__(self) -> Any:  # noqa: ANN401 - a module or None
        try:
            import atheris
        except ImportError:
            self.block = None
            return None
        self.block = atheris.instrument_imports(include=["transformer_core", "tokenizer", "cli", "tomllib", "json"])
        self.block.__enter__()
        return atheris

    def __exit__(self, *error: object) -> None:
        if self.block is not None:
            self.block.__exit__(*error)


def _kind(error: BaseException) -> str:
    """Name a finding so that the same fault has the same name: its type and the innermost place in the project."""
    places = [
        f"{Path(frame.filename).name}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if any(part in frame.filename for part in ("transformer_core/", "/tokenizer/", "/cli/"))
    ]
    said = re.sub(r"\d+|'[^']*'|\"[^\"]*\"", "_", str(error))[:100]
    return f"{type(error).__name__} at {places[-1] if places else 'target'}: {said}"


def _limit_memory() -> None:
    """Let the process take no more than MEMORY_BYTES beyond what it has."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0])
    limit = pages * resource.getpagesize() + MEMORY_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def fuzz(name: str, cpu_seconds: float, seed: int, prepared: Path, findings: Path) -> Tally:
    """Feed one target in processes of its own until its CPU time is over, however often it takes one down."""
    total = Tally(name)
    for start in range(MAX_STARTS):
        with tempfile.TemporaryDirectory() as folder:
            seconds = cpu_seconds - total.cpu_seconds
            options = {"worker": folder, "prepared": prepared, "seconds": seconds, "seed": seed + start}
            arguments = [f"--{option}={value}" for option, value in options.items()]
            process = subprocess.run([sys.executable, __file__, *arguments, name], capture_output=True, check=False)
            _add(total, Path(folder), process, findings)
        if process.returncode == 0 or total.cpu_seconds >= cpu_seconds:
            break
    return total


def _add(total: Tally, folder: Path, process: subprocess.CompletedProcess[bytes], findings: Path) -> None:
    """Add what one process found, and the process itself if something ended it."""
    if (folder / "tally.json").exists():
        found = Tally(**json.loads((folder / "tally.json").read_text(encoding="utf-8")))
        total.engine = found.engine
        total.num_inputs += found.num_inputs
        total.num_refused += found.num_refused
        total.cpu_seconds += found.cpu_seconds
        total.slowest_seconds = max(total.slowest_seconds, found.slowest_seconds)
        for kind, name in found.findings.items():
            if kind not in total.findings:
                total.findings[kind] = name
                for file in (name, f"{name}.txt"):
                    (findings / file).write_bytes((folder / file).read_bytes())
    if process.returncode:
        said = process.stderr.decode("utf-8", "replace")[-3000:]
        kind = f"the process ended with {process.returncode}"
        if kind not in total.findings:
            name = f"{total.target.replace(' ', '-')}-ended-{abs(process.returncode)}"
            total.findings[kind] = name
            if (folder / "running").exists():
                (findings / name).write_bytes((folder / "running").read_bytes())
            (findings / f"{name}.txt").write_text(f"{kind}\n\n{said}", encoding="utf-8")


def main() -> None:
    """Print the table and write the JSON; fail if anything was found."""
    parser = argparse.ArgumentParser(description="Damaged and hostile files for every reader.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help="all of them if none is named")
    parser.add_argument(
        "--seconds", type=float, default=60, help="CPU-seconds for each target, its preparation included"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"), help="where inputs that fail are kept")
    parser.add_argument("--output", type=Path, help="where to write the figures as JSON")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--prepared", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return work(options.targets[0], options.seconds, options.seed, options.prepared, options.worker)
    from benchmarks.fuzz_targets import TARGETS, prepare
    from benchmarks.results_table import MACHINE, show, write_figures

    options.findings.mkdir(parents=True, exist_ok=True)
    tallies = []
    with tempfile.TemporaryDirectory() as prepared:
        prepare(Path(prepared))
        for name in options.targets or TARGETS:
            tallies.append(fuzz(name, options.seconds, options.seed, Path(prepared), options.findings.resolve()))
            print(f"{name}: {len(tallies[-1].findings)} findings", file=sys.stderr, flush=True)
    rows = [{**asdict(tally), "findings": len(tally.findings)} for tally in tallies]
    show(f"{sum(tally.cpu_seconds for tally in tallies) / 60:.1f} CPU-minutes, seed {options.seed}", rows)
    if options.output:
        targets = [asdict(each) for each in tallies]
        write_figures(options.output, {"seed": options.seed, "targets": targets, **MACHINE})
    if any(tally.findings for tally in tallies):
        sys.exit(f"findings are in {options.findings}")
    return None


if __name__ == "__main__":
    main()
