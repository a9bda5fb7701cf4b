"""The architecture: imports point one way, what must load fast loads nothing heavy, one file reads RANK."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.program import REPOSITORY, program_environment

PACKAGES = ("cli", "tokenizer", "transformer_core")

# From the ground up; what stands on one floor may import what stands on it or below. The longest prefix counts.
FLOORS = {
    "tokenizer": 0,
    "transformer_core.errors": 0,
    "transformer_core": 0,  # the package itself holds a docstring
    "transformer_core.config": 1,
    "transformer_core.device": 1,
    "transformer_core.fp32_products": 1,
    "transformer_core.json_record": 1,
    "transformer_core.out_of_memory": 1,
    "transformer_core.worker_channel": 1,
    "transformer_core.worker_processes": 1,
    "transformer_core.forked_processes": 1,
    "transformer_core.ray_workers": 1,
    "transformer_core.data": 1,
    "transformer_core.decoding.config": 1,
    "transformer_core.decoding.generation": 1,
    "transformer_core.evaluation": 1,
    "transformer_core.model_files": 2,
    "transformer_core.weight_file": 2,
    "transformer_core.provenance": 2,
    "transformer_core.layers": 2,
    "transformer_core.lexicon": 2,
    "transformer_core.model": 3,
    "transformer_core.model_directory": 4,
    "transformer_core.new_model": 4,
    "transformer_core.attention_walk": 4,
    "transformer_core.decoding": 5,
    "transformer_core.training": 5,
    "transformer_core.conversion": 5,
    "transformer_core.quantized_model": 5,
    "transformer_core.inspection": 5,
    "transformer_core.serving": 6,
    "transformer_core.experiments": 6,
    "cli": 7,
}
SIDE_BY_SIDE = {5}  # on these floors none imports its neighbour

HEAVY = ("torch", "numpy", "sacrebleu", "tokenizers", "safetensors", "rapidfuzz", "pydantic")
LIGHT_MODULES = {
    "cli.main": HEAVY,
    "cli.commands.translate": HEAVY,
    "transformer_core.serving.client": HEAVY,
    "transformer_core.errors": HEAVY,
    "transformer_core.out_of_memory": HEAVY,
    "transformer_core.config": HEAVY,
    "transformer_core.data.lines": ("torch", "sacrebleu"),
    "transformer_core.evaluation": ("torch",),
    "transformer_core.evaluation.metrics": ("torch",),
    "transformer_core.conversion.quantization": ("torch",),
    "transformer_core.decoding.config": ("torch",),
    "transformer_core.inspection.attention_maps": HEAVY,
    "transformer_core.inspection.curves": HEAVY,
    "transformer_core.training.config": ("torch",),
    "transformer_core.lexicon.config": ("torch",),
    "transformer_core.model_files": ("torch",),
    "transformer_core.provenance": ("torch",),
    "tokenizer": ("torch",),
}


def modules() -> dict[str, Path]:
    """Every module of the packages by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((REPOSITORY / package).rglob("*.py")):
            parts = path.relative_to(REPOSITORY).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


def imports_of(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import of ours in a file, wherever in the file it stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            base = node.module or ""
            names = [f"{base}.{alias.name}" if f"{base}.{alias.name}" in MODULES else base for alias in node.names]
        else:
            continue
        for name in names:
            if name.partition(".")[0] in PACKAGES:
                yield node.lineno, name


def part_of(module: str) -> str:
    """The entry of FLOORS that a module belongs to."""
    return max((part for part in FLOORS if f"{module}.".startswith(f"{part}.")), key=len)


@pytest.mark.parametrize("module", MODULES)
def test_imports_run_down(module: str) -> None:
    faults = []
    part = part_of(module)
    for line, name in imports_of(MODULES[module]):
        other = part_of(name)
        if FLOORS[other] > FLOORS[part]:
            faults.append(f"line {line}: {module} imports {name}, which stands above it")
        elif other != part and FLOORS[other] == FLOORS[part] and FLOORS[part] in SIDE_BY_SIDE:
            faults.append(f"line {line}: {module} imports {name}, its neighbour")
        elif part == "tokenizer" and other != part:
            faults.append(f"line {line}: tokenizer imports {name}, but it stands by itself")
    assert not faults


def test_every_part_of_the_core_has_a_floor() -> None:
    without = [name for name in MODULES if name.count(".") >= 1 and part_of(name) == "transformer_core"]
    assert without == []


def test_no_import_goes_in_a_circle() -> None:
    graph = {module: {name for _, name in imports_of(path) if name != module} for module, path in MODULES.items()}
    finished: set[str] = set()

    def visit(module: str, trail: tuple[str, ...]) -> None:
        assert module not in trail, " -> ".join((*trail[trail.index(module) :], module))
        if module not in finished:
            for name in sorted(graph.get(module, ())):
                visit(name, (*trail, module))
            finished.add(module)

    for module in graph:
        visit(module, ())


@pytest.mark.parametrize("module", LIGHT_MODULES)
def test_what_must_load_fast_loads_nothing_heavy(module: str) -> None:
    code = f"import sys, {module}; print(*sorted(set(sys.modules) & set({LIGHT_MODULES[module]!r})))"
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=program_environment(), check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.split() == []


def test_only_distributed_reads_who_we_are_in_a_job() -> None:
    readers = [
        module
        for module, path in MODULES.items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and node.value in ("RANK", "LOCAL_RANK", "WORLD_SIZE")
    ]
    assert set(readers) <= {"transformer_core.training.distributed"}


def test_tests_and_their_folders_are_packages() -> None:
    # Else tests/tokenizer/ would shadow the package of that name.
    folders = {path.parent for path in (REPOSITORY / "tests").rglob("*.py")}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_no_module_hides_the_standard_library() -> None:
    names = {name.rpartition(".")[2] for name in MODULES if name.startswith("cli.")}
    assert names & {"inspect", "tokenize", "token", "statistics"} == set()
