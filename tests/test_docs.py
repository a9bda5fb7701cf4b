"""The documents are true: their commands run, what they name exists, links lead somewhere, what is derived is fresh."""

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import pytest

from cli import edge, foreign_options, settings
from cli.command import Command
from cli.lazy_group import Entry
from cli.main import COMMANDS
from tests.cli.test_options import COMMANDS_BY_NAME
from tests.program import REPOSITORY, program_environment, run_program
from transformer_core.config import ModelConfig, StackConfig
from transformer_core.experiments.training_file import ENDLESS_SCHEDULES, FREE_OPTIONS, LIMITS
from transformer_core.training.progress import StepReport, ValidationReport

README = REPOSITORY / "README.md"
FORMATS = REPOSITORY / "docs" / "formats.md"
DOCUMENTS = [README, REPOSITORY / "CONTRIBUTING.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
NOT_RUN = "<!-- not run -->"

# Few steps and short translations: whether commands work is the question here, not what a model learns.
SMALL = {
    "TRANSDUCE_TRAIN_MAX_STEPS": "4",
    "TRANSDUCE_TRAIN_VALID_EVERY": "2",
    "TRANSDUCE_TRAIN_THREADS": "1",
    "TRANSDUCE_DISTILL_MAX_STEPS": "4",
    "TRANSDUCE_DISTILL_VALID_EVERY": "2",
    "TRANSDUCE_DISTILL_THREADS": "1",
    "TRANSDUCE_DISTILL_BEAM_SIZE": "2",
    "TRANSDUCE_PRETRAIN_MAX_STEPS": "4",
    "TRANSDUCE_PRETRAIN_VALID_EVERY": "2",
    "TRANSDUCE_PRETRAIN_THREADS": "1",
    "TRANSDUCE_TRANSLATE_MAX_LENGTH": "5",
    "TRANSDUCE_COMPARE_MAX_STEPS": "2",
    "TRANSDUCE_COMPARE_MAX_LENGTH": "64",
    "TRANSDUCE_COMPARE_BATCH_SIZE": "200",
    "TRANSDUCE_COMPARE_THREADS": "1",
}
GENERAL_OPTIONS = {"--help", "-h", "--version", "--install-completion", "--show-completion"}
FOREIGN_OPTIONS = {"--line-buffered", "--max-restarts", "--strict"}  # of grep, torchrun and mypy


@dataclass(frozen=True)
class Block:
    """A fenced block of a document."""

    language: str
    text: str
    line: int  # of its fence
    is_run: bool


def blocks(document: Path) -> Iterator[Block]:
    """The fenced blocks of a document."""
    lines = document.read_text(encoding="utf-8").splitlines()
    fences = [index for index, line in enumerate(lines) if line.startswith("```")]
    assert len(fences) % 2 == 0, "every fence that opens closes"
    for start, end in zip(fences[::2], fences[1::2], strict=True):
        language = lines[start].removeprefix("```")
        is_run = language == "sh" and (start == 0 or lines[start - 1] != NOT_RUN)
        yield Block(language, "\n".join(lines[start + 1 : end]), start + 1, is_run)


def prose(document: Path) -> str:
    """A document without its fenced blocks."""
    return re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def code_spans(document: Path) -> list[str]:
    """What stands between single backticks in a document."""
    return [" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose(document))]


@dataclass(frozen=True)
class Shell:
    """Runs the commands of a document in a folder where `transduce` and `python` are those under test."""

    folder: Path

    def __post_init__(self) -> None:
        programs = self.folder / "bin"
        programs.mkdir()
        python = shlex.quote(sys.executable)
        log = shlex.quote(str(self.log))
        for name, script in {
            # a server is ended by its process id, so it takes the place of the script
            "transduce": f'test "$1" != serve || exec {python} -m cli "$@"\n'
            f'{python} -m cli "$@"\ncode=$?\necho $code "$@" >> {log}\nexit $code',
            "python": f'exec {python} "$@"',
            "torchrun": f'exec {python} -m torch.distributed.run "$@"',
        }.items():
            (programs / name).write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
            (programs / name).chmod(0o755)

    @property
    def log(self) -> Path:
        return self.folder / "exit-codes"

    def run(self, document: Path) -> Path:
        """Run every block of a document in turn; returns the folder in which they ran."""
        work = self.folder / "work"
        work.mkdir()
        path = f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
        environment = program_environment(PATH=path, **SMALL)
        for block in blocks(document):
            if not block.is_run:
                continue
            process = subprocess.run(
                ["sh", "-e", "-c", block.text],
                cwd=work,
                env=environment,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=600,
                check=False,
            )
            where, said = f"{document.name}:{block.line}", process.stderr.decode("utf-8")
            assert process.returncode == 0, f"{where}: {said}"
            assert "Traceback" not in said, f"{where}: {said}"
            for line in self.log.read_text(encoding="utf-8").splitlines() if self.log.exists() else []:
                assert line.split()[0] in ("0", str(edge.SIGPIPE)), f"{where}: {line}: {said}"  # | head goes away
        return work


@pytest.mark.slow
def test_the_tour_of_the_readme_runs_and_leaves_what_formats_says(tmp_path: Path) -> None:
    work = Shell(tmp_path).run(README)
    assert (work / "test.hyp").read_bytes().count(b"\n") == (work / "test.digits").read_bytes().count(b"\n")
    folder, documented = work / "spell", set(code_spans(FORMATS))
    files = {path.name + "/" * path.is_dir() for path in folder.iterdir()}
    assert files <= documented
    metadata = json.loads((folder / "metadata.json").read_text(encoding="utf-8"))
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    keys = {
        *metadata,
        *metadata["training"],
        *metadata["software"],
        *metadata["data"],
        *metadata["data"]["train_src"][0],
    }
    keys |= {key for record in records for key in record}
    keys |= set(json.loads(run_program("inspect", "model", folder, "--json").stdout))
    keys |= set(json.loads(run_program("tokenizer", "info", work / "words.json", "--json").stdout))
    assert keys <= documented


@pytest.mark.slow
def test_the_commands_of_the_tutorial_run(tmp_path: Path) -> None:
    Shell(tmp_path).run(REPOSITORY / "docs" / "tutorial.md")


def keys_of(record: object) -> Iterator[str]:
    """The keys of all objects in a JSON value."""
    if isinstance(record, dict):
        yield from record
    for value in record.values() if isinstance(record, dict) else record if isinstance(record, list) else ():
        yield from keys_of(value)


@pytest.mark.slow
def test_the_commands_of_the_page_on_inspecting_run(tmp_path: Path) -> None:
    work = Shell(tmp_path).run(REPOSITORY / "docs" / "inspecting.md")
    for name in ("attention.html", "attention.svg", "heads.png", "curves.png", "curves.html"):
        assert (work / name).stat().st_size > 1000, name


@pytest.mark.slow
def test_the_commands_about_layers_run(tmp_path: Path) -> None:
    work = Shell(tmp_path).run(REPOSITORY / "docs" / "layers.md")
    record = json.loads((work / "layers.json").read_text(encoding="utf-8"))
    assert set(keys_of(record)) <= set(code_spans(FORMATS))
    assert (work / "layers.svg").read_bytes().startswith(b"<?xml")


@pytest.mark.slow
def test_the_commands_about_pretraining_run(tmp_path: Path) -> None:
    work = Shell(tmp_path).run(REPOSITORY / "docs" / "pretraining.md")
    documented = set(code_spans(FORMATS))
    assert json.loads((work / "encoder" / "generation.json").read_text(encoding="utf-8")).keys() <= documented
    metadata = json.loads((work / "encoder" / "metadata.json").read_text(encoding="utf-8"))
    assert {*metadata, *metadata["data"], *metadata["pretraining"], *metadata["training"]["validation"]} <= documented
    assert {path.name for path in (work / "encoder" / "data").iterdir()} <= documented


@pytest.mark.slow
def test_the_commands_about_fine_tuning_run(tmp_path: Path) -> None:
    work = Shell(tmp_path).run(REPOSITORY / "docs" / "fine-tuning.md")
    documented = set(code_spans(FORMATS))
    metadata = json.loads((work / "pocket" / "metadata.json").read_text(encoding="utf-8"))
    started = json.loads((work / "german-adapted" / "metadata.json").read_text(encoding="utf-8"))
    assert {*metadata, *metadata["teacher"], *started["init_from"]} <= documented
    files = {path.name + "/" * path.is_dir() for path in (work / "pocket").iterdir()}
    assert files | {path.name for path in (work / "pocket" / "distilled").iterdir()} <= documented


@pytest.mark.slow
def test_the_commands_about_large_corpora_run_and_leave_what_formats_says(tmp_path: Path) -> None:
    work = Shell(tmp_path).run(REPOSITORY / "docs" / "large-corpora.md")
    folder, documented = work / "reverse-data", set(code_spans(FORMATS))
    assert {path.name + "/" * path.is_dir() for path in folder.iterdir()} <= documented
    for path in (folder / "prepared.json", folder / "train" / "corpus.json"):
        content = json.loads(path.read_text(encoding="utf-8"))
        assert content.keys() <= documented
    assert content["shards"][0].keys() <= documented
    assert json.loads((work / "both" / "generation.json").read_text(encoding="utf-8")).keys() <= documented


@pytest.mark.slow
def test_the_commands_for_those_who_come_from_elsewhere_run(tmp_path: Path) -> None:
    work = Shell(tmp_path).run(REPOSITORY / "docs" / "coming-from.md")
    assert (work / "test.hyp").read_bytes().count(b"\n") == 50
    numbers = [int(line.split(b" ||| ")[0]) for line in (work / "test.nbest").read_bytes().splitlines()]
    assert set(numbers) == set(range(50))


@pytest.mark.slow
def test_the_commands_about_conversion_run(tmp_path: Path) -> None:
    for package in ("ctranslate2", "transformers"):
        pytest.importorskip(package)
    work = Shell(tmp_path).run(REPOSITORY / "docs" / "conversion.md")
    documented = set(code_spans(FORMATS))
    metadata = json.loads((work / "reverse-again" / "metadata.json").read_text(encoding="utf-8"))
    assert {*metadata, *metadata["imported"]} <= documented


@pytest.mark.slow
def test_the_commands_about_scaling_run(tmp_path: Path) -> None:
    work = Shell(tmp_path).run(REPOSITORY / "docs" / "scaling.md")
    names = [sorted(path.name for path in (work / model).rglob("*")) for model in ("model", "large")]
    assert names[0] == names[1]
    assert "model.safetensors" in names[0]


@pytest.mark.slow
def test_the_commands_about_serving_run(tmp_path: Path) -> None:
    work = Shell(tmp_path).run(REPOSITORY / "docs" / "serving.md")
    assert not (work / "en-de.sock").exists()


@pytest.mark.slow
def test_the_commands_about_fast_models_run(tmp_path: Path) -> None:
    work = Shell(tmp_path).run(REPOSITORY / "docs" / "fast-models.md")
    assert (work / "model" / "shortlist.safetensors").exists()
    assert (work / "fast" / "shortlist.safetensors").exists()


@pytest.mark.slow
def test_the_commands_about_training_run(tmp_path: Path) -> None:
    work = Shell(tmp_path).run(REPOSITORY / "docs" / "training.md")
    config = json.loads((work / "model" / "config.json").read_text(encoding="utf-8"))
    assert config["positions"] == "rotary"
    options = tomllib.loads((work / "model" / "training.toml").read_text(encoding="utf-8"))
    assert (options["optimizer"], options["r_drop"], options["metric"]) == ("muon", 3.0, "bleu")


def test_only_these_documents_have_commands_to_run() -> None:
    with_commands = {document.name for document in DOCUMENTS if any(block.is_run for block in blocks(document))}
    pages = (
        "coming-from",
        "conversion",
        "fast-models",
        "fine-tuning",
        "inspecting",
        "large-corpora",
        "layers",
        "pretraining",
        "scaling",
        "serving",
        "training",
        "tutorial",
    )
    assert with_commands == {"README.md", *(f"{page}.md" for page in pages)}


def option_names(command: str = "") -> set[str]:
    """Every spelling of the options of a command, or of all commands."""
    names = set(GENERAL_OPTIONS)
    for name, found in COMMANDS_BY_NAME.items():
        if command in ("", name):
            names.update(spelling for item in found.params for spelling in (*item.opts, *item.secondary_opts))
            if isinstance(found, Command):
                names.update(alias for aliases in found.aliases.values() for alias in aliases)
    return names


def aliases(entries: tuple[Entry, ...] = COMMANDS) -> dict[str, str]:
    """Commands that stand for another one."""
    return {entry.name: entry.alias_of for entry in entries if entry.alias_of is not None}


def simple_commands(script: str) -> Iterator[list[str]]:
    """The words of every simple command of a shell script, its redirections and here-documents left out."""
    script = re.sub(r"<<'(\w+)'\n.*?^\1$", "", script, flags=re.DOTALL | re.MULTILINE).replace("\\\n", " ")
    lexer = shlex.shlex(script.replace("\n", ";"), posix=True, punctuation_chars="();<>|&")
    lexer.whitespace_split = True
    lexer.commenters = ""
    words: list[str] = []
    for token in [*lexer, ";"]:
        if set(token) <= set("();|&"):
            yield words
            words = []
        else:
            words.append(token)


def calls(document: Path) -> Iterator[tuple[str, list[str]]]:
    """Every call of transduce in a document, its command resolved."""
    scripts = [block.text for block in blocks(document) if block.language == "sh"]
    scripts += [span for span in code_spans(document) if re.match(r"(\w+=\S* )*transduce [a-z]", span)]
    for script in scripts:
        for words in simple_commands(script):
            while words and re.match(r"[A-Z_]+=", words[0]):
                words = words[1:]
            if words[:1] != ["transduce"] or len(words) == 1:
                continue
            name, rest = aliases().get(words[1], words[1]), words[2:]
            if f"{name} {' '.join(rest[:1])}" in COMMANDS_BY_NAME:
                name, rest = f"{name} {rest[0]}", rest[1:]
            yield name, rest


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_and_option_that_is_named_exists(document: Path) -> None:
    groups = {name.partition(" ")[0] for name in COMMANDS_BY_NAME if " " in name}
    for name, words in calls(document):
        if name in groups or name.startswith("-"):
            continue
        assert name in COMMANDS_BY_NAME, f"transduce {name}"
        given = {word.partition("=")[0] for word in words if re.match(r"--?[a-z]", word)}
        assert given <= option_names(name), f"transduce {name}"
    named = {word for span in code_spans(document) for word in re.findall(r"(?<![\w-])--[a-z][a-z-]*", span)}
    others = set(foreign_options.FOREIGN_OPTIONS) if document.name == "coming-from.md" else set()
    assert named <= option_names() | FOREIGN_OPTIONS | others


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_variable_that_is_named_exists(document: Path) -> None:
    known = {"TRANSDUCE_DEBUG", "TRANSDUCE_COMMAND_OPTION"}
    for name, command in COMMANDS_BY_NAME.items():
        prefix = f"TRANSDUCE_{name.replace(' ', '_').upper()}"
        known.update(f"{prefix}_{settings.key_of(item).upper()}" for item in command.params if item.expose_value)
    text = document.read_text(encoding="utf-8")
    assert set(re.findall(r"\bTRANSDUCE_[A-Z][A-Z_]*\b", text)) <= known


def anchors(document: Path) -> set[str]:
    """What a link into a document may point at: its headings as GitHub names them."""
    headings = re.findall(r"^#+ (.+)$", prose(document), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", prose(document)):
        if link.startswith("https://"):
            continue
        name, _, anchor = link.partition("#")
        target = (document.parent / name).resolve() if name else document
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


def test_what_is_derived_is_up_to_date() -> None:
    process = subprocess.run(
        [sys.executable, "docs/generate_reference.py", "--check"],
        cwd=REPOSITORY,
        env=program_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert process.returncode == 0, process.stderr


def test_the_set_up_is_that_of_the_makefile() -> None:
    makefile = (REPOSITORY / "Makefile").read_text(encoding="utf-8")
    set_up = "\n".join(block.text for block in blocks(README) if block.language == "sh" and not block.is_run)
    for target in re.findall(r"\bmake ([a-z]+)", set_up):
        assert re.search(rf"^{target}:", makefile, flags=re.MULTILINE), target
    with (REPOSITORY / "pyproject.toml").open("rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    install = ".venv/bin/python -m pip install -c constraints.txt -e "
    assert f"{install}'.[demo]'".replace(".venv/bin", "$(BIN)") in makefile
    assert f"{install}'.[demo]'\n.venv/bin/transduce demo" in set_up
    others = [name for name, packages in extras.items() if name == "dev" or not set(packages) <= set(extras["dev"])]
    assert f"{install}'.[{','.join(sorted(others))}]'" in set_up


@pytest.mark.parametrize("document", [README, FORMATS], ids=lambda path: path.name)
def test_the_exit_codes_are_those_of_the_program(document: Path) -> None:
    section = document.read_text(encoding="utf-8").partition("## Exit codes")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| ([\d, ]+) \|", section, flags=re.MULTILINE)
    documented = {int(code) for cell in cells for code in cell.split(",")}
    signals = {edge.SIGHUP, edge.SIGINT, edge.SIGPIPE, edge.SIGTERM}
    assert documented == {0, *edge.EXIT_CODES.values(), *signals}


def test_formats_names_every_key_of_what_is_written() -> None:
    documented = set(code_spans(FORMATS))
    for record in (StepReport, ValidationReport, ModelConfig, StackConfig):
        assert {item.name for item in fields(record)} <= documented, record.__name__
    assert documented >= FREE_OPTIONS | LIMITS | ENDLESS_SCHEDULES
