"""What is public: a package's __all__ equals what its __init__ exports."""

import ast
import importlib
from pathlib import Path

import pytest

from tests.test_layers import MODULES

INITS = {name: path for name, path in MODULES.items() if path.name == "__init__.py"}


def exported(path: Path) -> list[str] | None:
    """The names in __all__, as written; None if there is none."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and any(getattr(target, "id", "") == "__all__" for target in node.targets):
            return [str(name) for name in ast.literal_eval(node.value)]
    return None


def imported(path: Path) -> set[str]:
    """The public names that the top level of a file imports or binds."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom | ast.Import):
            names |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return {name for name in names if not name.startswith("_")}


@pytest.mark.parametrize("name", INITS)
def test_a_package_says_what_it_exports(name: str) -> None:
    path = INITS[name]
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), f"{name} says not what it is for"
    names = exported(path)
    assert set(names or ()) == imported(path)


@pytest.mark.parametrize("name", [name for name, path in MODULES.items() if exported(path) is not None])
def test_what_is_exported_exists_once(name: str) -> None:
    names = exported(MODULES[name])
    assert names is not None
    assert len(names) == len(set(names))
    module = importlib.import_module(name)
    assert [missing for missing in names if not hasattr(module, missing)] == []


def test_the_core_holds_a_docstring_only() -> None:
    assert len(ast.parse(MODULES["transformer_core"].read_text(encoding="utf-8")).body) == 1
