"""Write what can be derived: docs/reference.md from the help of every command, README.md's file tree from docstrings.

python docs/generate_reference.py            writes both; so does `make reference`
python docs/generate_reference.py --check    writes nothing; fails if one of them is not up to date
"""

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from cli.command import Command
from cli.lazy_group import Entry, load
from cli.main import COMMANDS, app
from tokenizer.atomic_file import write_text

REPOSITORY = Path(__file__).resolve().parent.parent
REFERENCE = REPOSITORY / "docs" / "reference.md"
README = REPOSITORY / "README.md"

WIDTH = 100  # characters of a line of help
TREE_BEGIN, TREE_END = "<!-- tree -->\n```text\n", "```\n<!-- end of tree -->\n"
PACKAGES = ("cli", "tokenizer", "transformer_core")
DESCRIPTION_COLUMN = 30

INTRODUCTION = """# Reference

What `--help` says of every command, in one page. `make reference` writes it; do not edit it.

Of every option:

- Its long name with underscores is its key in a file for `-c` and, after `TRANSDUCE_` and the command, its
  environment variable: `--beam-size` of `translate` is `beam_size` and `TRANSDUCE_TRANSLATE_BEAM_SIZE`.
- An option that may be repeated takes a list in the file, and in the environment values with spaces between them, paths
  with colons: `TRANSDUCE_EVALUATE_METRICS="bleu ter"`, `TRANSDUCE_EVALUATE_INPUT=one.hyp:two.hyp`.
- A flag wins over the environment, that over the file, that over what the model was saved with, that over the
  built-in default; `--print-config` shows where each value comes from.
- Hyphens and underscores are the same on the command line: `--beam_size` is `--beam-size`.
- Where other tools have another name for it, that name works too; it stands under "Also accepted".
- `-` is standard input or output. Files ending in `.gz`, `.xz` or `.zst` are compressed, read or written.

Exit codes are in [formats.md](formats.md#exit-codes).
"""

# What stands at the top of the repository, and the folders whose files are not packages.
FILES = {
    "README.md": "this page",
    "CONTRIBUTING.md": "how to work on it",
    "CHANGELOG.md": "what changed for users",
    "LICENSE": "Apache-2.0",
    "pyproject.toml": "the package, its dependencies, and the settings of ruff, mypy and pytest",
    "constraints.txt": "the versions that are tested",
    "Makefile": "make demo, test, check, reference, clean",
    ".pre-commit-config.yaml": "formats and lints what is committed",
    ".ci/run": "checks a clean clone",
    "docs/tutorial.md": "from data to a filter in a pipe, fine-tuning, n-best lists, settings",
    "docs/inspecting.md": "what a model looks at, and how training went: text, figures, pages for the browser",
    "docs/layers.md": "attention, recurrence and convolution: the argument, the table, and what each learns",
    "docs/pretraining.md": "masked and denoising pretraining on raw text, fill, and what they bring",
    "docs/conversion.md": "models for Hugging Face and CTranslate2, and models of theirs",
    "docs/fine-tuning.md": "another vocabulary, frozen parts, low-rank adapters; a small model taught by a large one",
    "docs/reference.md": "every command and option",
    "docs/formats.md": "every file that is written, every key and column, exit codes",
    "docs/troubleshooting.md": "symptom, cause, cure",
}
TESTS = "tests/ mirrors the packages: what cli/settings.py does is tested in tests/cli/test_settings.py"


def main() -> None:
    """Write both files, or compare them with what would be written."""
    wanted = {REFERENCE: reference(), README: _with_tree(README.read_text(encoding="utf-8"))}
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv[1:]:
        if stale:
            names = ", ".join(str(path.relative_to(REPOSITORY)) for path in stale)
            sys.exit(f"not up to date: {names}; run `make reference`")
        return
    for path in stale:
        write_text(path, wanted[path])


def reference() -> str:
    """The text of docs/reference.md."""
    program = typer.main.get_command(app)
    sections = [INTRODUCTION, _section("transduce", program)]
    for name, command in _commands(COMMANDS, "transduce"):
        sections.append(_section(name, command))
    return "\n".join(sections)


def _commands(entries: tuple[Entry, ...], path: str) -> Iterator[tuple[str, Any]]:
    """Every command that the help shows, by the words that call it."""
    for entry in entries:
        name = f"{path} {entry.name}"
        if entry.is_hidden or entry.alias_of is not None:
            continue
        if entry.entries:
            yield from _commands(entry.entries, name)
            continue
        command = load(entry)
        children = getattr(command, "commands", None)
        if children is None:
            yield name, command
        else:
            yield from ((f"{name} {child_name}", child) for child_name, child in children.items())


def _section(name: str, command: Any) -> str:  # noqa: ANN401 - Typer's commands have no public name
    """The help of one command as plain text, its options under their headings."""
    context = command.make_context(
        name, [], resilient_parsing=True, help_option_names=["-h", "--help"], terminal_width=WIDTH
    )
    formatter = context.make_formatter()
    formatter.width = WIDTH
    command.format_usage(context, formatter)
    command.format_help_text(context, formatter)
    panels: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(context):
        record = parameter.get_help_record(context)
        if record is not None and not getattr(parameter, "hidden", False):
            panels.setdefault(getattr(parameter, "rich_help_panel", None) or "Options", []).append(record)
    for panel, records in panels.items():
        with formatter.section(panel):
            formatter.write_dl(records, col_max=36)
    for panel, records in _children(command).items():
        with formatter.section(panel):
            formatter.write_dl(records)
    text = "\n".join(line.rstrip() for line in formatter.getvalue().replace("\\[", "[").splitlines()).strip()
    return f"## {name}\n\n```text\n{text}\n```\n{_aliases(command)}"


def _children(command: Any) -> dict[str, list[tuple[str, str]]]:  # noqa: ANN401 - as above
    """The lines of the commands of a group, by their headings."""
    panels: dict[str, list[tuple[str, str]]] = {}
    for name, child in getattr(command, "commands", {}).items():
        if not child.hidden:
            panels.setdefault(child.rich_help_panel or "Commands", []).append((name, child.get_short_help_str(WIDTH)))
    return panels


def _aliases(command: Any) -> str:  # noqa: ANN401 - as above
    if not isinstance(command, Command):
        return ""
    names = [
        f"{', '.join(f'`{alias}`' for alias in command.aliases[option.name])} for `{option.opts[0]}`"
        for option in command.params
        if command.aliases.get(option.name)
    ]
    return f"\nAlso accepted: {'; '.join(names)}.\n" if names else ""


def _with_tree(text: str) -> str:
    """README.md with the tree as it is now."""
    head, begin, rest = text.partition(TREE_BEGIN)
    _, end, tail = rest.partition(TREE_END)
    if not begin or not end:
        sys.exit(f"{README.name}: has no place for the tree; it stands between {TREE_BEGIN!r} and {TREE_END!r}")
    return f"{head}{begin}{tree()}{end}{tail}"


def tree() -> str:
    """One line per file: what the folder's or the module's docstring says first."""
    lines = [line for package in PACKAGES for line in _branch(REPOSITORY / package)]
    lines.append(_line(TESTS.partition(" ")[0], TESTS.partition(" ")[2], 0))
    lines.append(_line("benchmarks/", "what it reaches, each by one command", 0))
    lines += _leaves(REPOSITORY / "benchmarks", 1)
    lines.append(_line("docs/", "what is too long for this page", 0))
    lines += [_line(Path(name).name, words, 1) for name, words in FILES.items() if name.startswith("docs/")]
    lines += _leaves(REPOSITORY / "docs", 1)
    lines += [_line(name, words, 0) for name, words in FILES.items() if not name.startswith("docs/")]
    return "".join(f"{line}\n" for line in lines)


def _branch(folder: Path, depth: int = 0) -> Iterator[str]:
    """A package: its own line, its modules, its sub-packages."""
    yield _line(f"{folder.name}/", _first_sentence(folder / "__init__.py"), depth)
    yield from _leaves(folder, depth + 1)
    for child in sorted(folder.iterdir()):
        if (child / "__init__.py").exists():
            yield from _branch(child, depth + 1)


def _leaves(folder: Path, depth: int) -> list[str]:
    modules = sorted(path for path in folder.glob("*.py") if path.name != "__init__.py")
    return [_line(path.name, _first_sentence(path), depth) for path in modules]


def _line(name: str, words: str, depth: int) -> str:
    return f"{'  ' * depth}{name}".ljust(DESCRIPTION_COLUMN) + words


def _first_sentence(path: Path) -> str:
    """What the docstring of a module says up to the first full stop; the one of "et al." is none."""
    documentation = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    paragraph = " ".join(documentation.partition("\n\n")[0].split())
    return re.split(r"(?<! al)\. ", paragraph)[0].rstrip(".:")


if __name__ == "__main__":
    main()
