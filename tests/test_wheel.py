"""The wheel holds our three packages and nothing else, and works without the checkout."""

import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from tests.program import REPOSITORY, program_environment
from tests.test_layers import MODULES, PACKAGES

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built from the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=REPOSITORY,
        check=True,
        capture_output=True,
    )
    (path,) = folder.glob("*.whl")
    return path


def test_it_holds_our_packages_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.partition("/")[0] for name in names if ".dist-info/" not in name} == set(PACKAGES)
    files = {name for name in names if name.endswith(".py")}
    assert files == {path.relative_to(REPOSITORY).as_posix() for path in MODULES.values()}
    pages = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "transformer_core").rglob("*.html")}
    assert pages and pages == {name for name in names if name.endswith(".html")}
    assert {name for name in names if name.endswith("py.typed")} == {f"{package}/py.typed" for package in PACKAGES}
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_it_works_in_an_environment_of_its_own_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    home = tmp_path / "environment"
    venv.create(home, with_pip=False)
    python = home / "bin" / "python"
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)],
        check=True,
        capture_output=True,
    )
    # What we depend on is lent by the environment that runs the tests: a folder named in a .pth file is searched after
    # the environment's own, and .pth files inside it (that of an editable install of the checkout) are not read.
    (packages,) = (home / "lib").glob("python*/site-packages")
    (packages / "lent.pth").write_text("\n".join(site.getsitepackages()) + "\n", encoding="utf-8")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {name: value for name, value in program_environment().items() if name != "PYTHONPATH"}

    def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            arguments, cwd=elsewhere, env=environment, capture_output=True, text=True, check=False, encoding="utf-8"
        )

    where = run(str(python), "-c", "import cli, tokenizer, transformer_core; print(cli.__file__)")
    assert Path(where.stdout.strip()).is_relative_to(packages)
    version = run(str(home / "bin" / "transduce"), "--version")
    assert (version.returncode, version.stderr) == (0, "")
    assert version.stdout.startswith("transduce 0.")
    assert run(str(home / "bin" / "transduce"), "--help").returncode == 0
