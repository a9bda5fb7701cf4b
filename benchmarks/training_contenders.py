"""The rows of training_speed.py: which tool, run how; and one run of each."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.timed_run import run_timed
from benchmarks.training_tools import (
    Precision,
    Setting,
    ToolName,
    count_parameters,
    count_target_tokens,
    eole_config,
    joeynmt_config,
    transduce_arguments,
    window,
)

__all__ = ["CONTENDERS", "PLAIN", "Bench", "Contender", "Counts", "Measurement"]

REPOSITORY = Path(__file__).resolve().parent.parent
Counts = dict[str, int]


@dataclass(frozen=True)
class Contender:
    """A row: a tool, and how it is run."""

    tool: ToolName
    precision: Precision = "fp32"
    options: tuple[str, ...] = ()  # of `transduce train`, beside the common ones
    environment: Mapping[str, str] = field(default_factory=dict)
    program: tuple[str, ...] = ("-m", "cli")  # what Python runs for `transduce`


ALL_PRIMITIVES = {"ONEDNN_PRIMITIVE_CACHE_CAPACITY": "1024"}  # oneDNN's own default; the program says 16
# glibc gives large blocks back to the system and asks for them again; 32 MiB is the largest threshold it takes
KEPT_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "4000000000", "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20)}
BY_MKL = (  # says of oneDNN that it is not exact
    "from transformer_core import fp32_products; fp32_products._is_exact = lambda: False; "
    "from cli.main import main; main()"
)
PLAIN = {
    "transduce": Contender("transduce"),
    "eole": Contender("eole"),
    "joeynmt": Contender("joeynmt"),
    "transduce bf16": Contender("transduce", "bf16"),
    "eole bf16": Contender("eole", "bf16"),
}
VARIANTS = {  # each one trick of ours, on or off
    "products by MKL": Contender("transduce", program=("-c", BY_MKL)),
    "no dropout": Contender("transduce", options=("--dropout", "0")),
    "all primitives kept": Contender("transduce", environment=ALL_PRIMITIVES),
    "memory kept": Contender("transduce", environment=KEPT_MEMORY),
    "muon": Contender("transduce", options=("--optimizer", "muon")),
    "bf16, no dropout": Contender("transduce", "bf16", ("--dropout", "0")),
    "bf16, all primitives kept": Contender("transduce", "bf16", environment=ALL_PRIMITIVES),
    "bf16, memory kept": Contender("transduce", "bf16", environment=KEPT_MEMORY),
    "bf16, muon": Contender("transduce", "bf16", ("--optimizer", "muon")),
}
CONTENDERS = {**PLAIN, **VARIANTS}


@dataclass(frozen=True)
class Measurement:
    """One run of a contender."""

    target_tokens: float
    cpu_seconds: float
    wall_seconds: float
    peak_bytes: int
    parameters: int


@dataclass(frozen=True)
class Bench:
    """Where things are, and what is run."""

    setting: Setting
    folder: Path
    peers: Path | None  # the Python that has them
    core: int | None

    def command(self, contender: Contender, model: Path) -> list[str]:
        """Write the configuration of a contender; give the command that trains it."""
        if contender.tool == "transduce":
            arguments = transduce_arguments(self.setting, model, contender.precision, contender.options)
            return [sys.executable, *contender.program, *arguments]
        path = self.config(contender, model)
        if contender.tool == "eole":
            return [str(self.peers), "-m", "eole.bin.main", "train", "-config", str(path)]
        return [str(self.peers), "-m", "joeynmt", "train", str(path), "--skip-test"]

    def config(self, contender: Contender, model: Path) -> Path:
        """Write the configuration file of a peer; JSON is YAML."""
        if contender.tool == "eole":
            config = eole_config(self.setting, model, contender.precision)
        else:
            config = joeynmt_config(self.setting, model)
        path = model.with_suffix(".yaml")
        path.write_text(json.dumps(config, indent=1), encoding="utf-8")
        return path

    def environment(self, contender: Contender) -> dict[str, str]:
        """The variables of a run; the peers see nothing of this repository."""
        variables = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        path = {"PYTHONPATH": str(REPOSITORY)} if contender.tool == "transduce" else {}
        return {**variables, **path, **contender.environment}

    def measure(self, name: str, contender: Contender) -> Measurement:
        """Train once."""
        model = self.folder / name.replace(", ", "-").replace(" ", "-")
        shutil.rmtree(model, ignore_errors=True)
        command = self.command(contender, model)
        say(command, contender.environment)
        run = run_timed(command, self.environment(contender), self.core)
        lines = window(contender.tool, run.lines, self.setting.warmup, self.setting.max_steps)
        measurement = Measurement(
            target_tokens=count_target_tokens(contender.tool, lines, model),
            cpu_seconds=lines[-1].cpu_seconds - lines[0].cpu_seconds,
            wall_seconds=lines[-1].wall_seconds - lines[0].wall_seconds,
            peak_bytes=run.peak_bytes,
            parameters=count_parameters(contender.tool, run.lines),
        )
        shutil.rmtree(model)
        return measurement

    def count_epoch(self, tool: ToolName) -> Counts:
        """Count tokens and places of an epoch as the tool makes its batches."""
        script, setting = str(REPOSITORY / "benchmarks" / "batch_padding.py"), self.setting
        if tool == "transduce":
            arguments = [*map(str, (*setting.train, setting.tokenizer)), str(setting.batch_size)]
            command = [sys.executable, script, tool, *arguments]
        else:
            command = [str(self.peers), script, tool, str(self.config(Contender(tool), self.folder / tool))]
        say(command)
        output = subprocess.run(
            command, capture_output=True, check=True, text=True, encoding="utf-8", env=self.environment(Contender(tool))
        ).stdout
        counts: Counts = json.loads(output.splitlines()[-1])
        return counts


def say(command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
    """Print a command as a user would type it."""
    words = ["transduce", *command[3:]] if list(command[:3]) == [sys.executable, "-m", "cli"] else command
    variables = "".join(f"{name}={value} " for name, value in (environment or {}).items())
    print(f"$ {variables}{shlex.join(words)}", file=sys.stderr, flush=True)
