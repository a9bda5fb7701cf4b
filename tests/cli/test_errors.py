"""Every bad input gets one line and the exit code of its kind, and leaves nothing half written."""

import json
import resource
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import app
from tests.training_task import TINY_RUN, reversed_strings, write_lines, write_task
from transformer_core.experiments.train_from_text import train_from_text


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the task's files and a trained model."""
    folder = tmp_path_factory.mktemp("trained")
    source, target = write_task(folder)
    options = ["-s", source, "-t", target, "-o", folder / "model", *TINY_RUN, "--max-steps", "4", "--valid-every", "2"]
    result = CliRunner().invoke(app, ["train", *map(str, options)])
    assert result.exit_code == 0, result.stderr
    return folder


@pytest.fixture
def work(tmp_path: Path, trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a copy of that one, with more files, good and bad."""
    folder = tmp_path / "work"
    shutil.copytree(trained, folder)
    monkeypatch.chdir(folder)
    sources, _ = reversed_strings(200)
    write_lines(folder / "longer.src", [*sources, "a b"])
    write_lines(folder / "empty", [])
    write_lines(folder / "blank", [""] * 200)
    (folder / "latin1.src").write_bytes("".join(f"{line}\n" for line in sources).encode() + b"caf\xe9\n")
    (folder / "latin1.src").write_bytes(b"caf\xe9\n" + (folder / "latin1.src").read_bytes().split(b"\n", 1)[1][:-5])
    (folder / "damaged.src.gz").write_bytes(b"\x1f\x8b\x08\x00garbage")
    write_lines(folder / "no-tokenizer.json", ['{"version": "1.0"}'])
    write_lines(folder / "no.toml", ["lr = = 3"])
    return folder


FILES = "-s train.src -t train.tgt"
NEW = "-o new"

# What is typed, the exit code, and how the line goes on.
FAULTS = [
    # --- data
    (f"train -s missing -t train.tgt {NEW}", 3, "missing: there is no such file"),
    (f"train -s train.src -t missing {NEW}", 3, "missing: there is no such file"),
    (f"train {FILES} --valid-src missing --valid-tgt train.tgt {NEW}", 3, "missing: there is no such file"),
    (f"train -s . -t train.tgt {NEW}", 3, ".: is a folder; training reads its data more than once, so name a file"),
    (f"train -s empty -t empty {NEW}", 3, "empty, empty: there is no text to learn a vocabulary from: there"),
    (f"train -s empty -t empty --tokenizer model/tokenizer.json {NEW}", 3, "empty: has 0 pairs; training and"),
    (f"train -s blank -t blank {NEW}", 3, "blank, blank: there is no text to learn a vocabulary from: every"),
    (f"train -s blank -t train.tgt --tokenizer model/tokenizer.json {NEW}", 3, "blank: has 0 pairs; training and"),
    (f"train -s longer.src -t train.tgt {NEW}", 3, "longer.src has 201 lines but train.tgt has 200; line N of one"),
    (
        f"train {FILES} --valid-src empty --valid-tgt empty {NEW}",
        3,
        "validation pairs of empty, empty: no pair",
    ),
    (f"train {FILES} --max-length 1 --valid-src longer.src --valid-tgt train.tgt {NEW}", 3, "longer.src has 201 lines"),
    (f"train -s latin1.src -t train.tgt {NEW}", 3, "latin1.src:1: is not UTF-8 (byte 0xe9 at column 4)"),
    (f"train -s damaged.src.gz -t train.tgt {NEW}", 3, "damaged.src.gz: "),
    # --- options that cannot work, alone or together
    (f"train -s train.src -t train.tgt -t train.tgt {NEW}", 2, "there are 1 source files and 2 target files"),
    (f"train {FILES} --valid-src train.src {NEW}", 2, "validation has 1 source files and 0 target files"),
    (f"train {FILES} --valid-size 200 {NEW}", 2, "--valid-size 200 would hold back all of the 200 pairs"),
    (f"train {FILES} --vocab-size 3 {NEW}", 2, "vocabulary_size (3) must be between 6 and"),
    (f"train {FILES} --tokenizer-kind bpe --vocab-size 262 {NEW}", 2, "vocabulary_size (262) is too small: bpe needs"),
    (f"train {FILES} --source-tokenizer model/tokenizer.json {NEW}", 2, "--source-tokenizer and --target-tokenizer go"),
    (f"train {FILES} --heads 3 {NEW}", 2, "d_model (16) must be divisible by num_heads (3)"),
    (f"train {FILES} --enc-d-model 32 --tie-embeddings all {NEW}", 2, "tie_embeddings 'all' needs one width"),
    (f"train {FILES} --lr 0 {NEW}", 2, "learning_rate (0.0) must be above 0"),
    (f"train -s - -t train.tgt {NEW}", 3, "-: is no plain file; training reads its data more than once, so name a"),
    (f"train {FILES} --init-checkpoint last {NEW}", 2, "--init-checkpoint chooses among the weights of a model; name"),
    (f"train {FILES} --lr nan {NEW}", 2, "learning_rate (nan) must be above 0"),
    (f"train {FILES} --label-smoothing 1 {NEW}", 2, "label_smoothing (1.0) must be at least 0 and below 1"),
    (f"train {FILES} --dropout 1 {NEW}", 2, "--dropout: must be"),
    (f"train {FILES} --batch-size 0 {NEW}", 2, "--batch-size: must be greater than or equal to 1"),
    (f"train {FILES} --batch-size many {NEW}", 2, "--batch-size: must be a valid integer"),
    (f"train {FILES} --arch tinny {NEW}", 2, "--arch: 'tinny' is not one of auto, tiny, small, base, big, tiny-6-2,"),
    (f"train {FILES} --metric blue {NEW}", 2, "--metric: 'blue' is not one of loss, bleu, chrf, wer, cer, exact; did"),
    (f"train {FILES} --device cuda:7 {NEW}", 2, "this machine has no device 'cuda:7'"),
    (f"train {FILES} --beam-size 3 {NEW}", 2, "no such option '--beam-size'"),
    (f"train {FILES}", 2, "--output is missing"),
    (f"train {FILES} -c no.toml {NEW}", 2, "no.toml: is not TOML"),
    (f"train {FILES} -c missing.toml {NEW}", 2, "missing.toml: cannot be read"),
    # --- the model folder
    (f"train {FILES} -o train.src", 2, "train.src: is a file; name a folder for the model"),
    (f"train {FILES} -o .", 2, ".: holds blank and no training run; name another folder for the model"),
    (f"train {FILES} -o model --valid-size 3", 2, "--valid-size was "),
    (f"train {FILES} --init-from model -o model --overwrite", 2, "--init-from and --output are both model"),
    # --- tokenizers and models
    (f"train {FILES} --tokenizer missing.json {NEW}", 4, "missing.json: no such file"),
    (f"train {FILES} --tokenizer no-tokenizer.json {NEW}", 4, "no-tokenizer.json: "),
    (f"train {FILES} --tokenizer train.src {NEW}", 4, "train.src: "),
    (f"train {FILES} --tokenizer model {NEW}", 4, "model: is a folder; name the file in it"),
    (f"train {FILES} --init-from missing {NEW}", 4, "missing: does not exist; name a folder written by"),
    ("inspect model missing", 4, "missing: does not exist"),
    ("inspect model train.src", 4, "train.src: is a file, not a model folder"),
    ("inspect model .", 4, "config.json: is missing; the model folder is incomplete"),
    ("average missing -o new", 4, "missing: does not exist"),
    ("average model -n 1 -o new", 2, "--last: must be greater than or equal to 2"),
    ("average model -o train.src", 2, "train.src: is there already; name another folder"),
    ("average model --checkpoint 3 --checkpoint 4 -o new", 4, "model: has no checkpoint 3; kept steps: 4"),
    ("average model model -n 2 -o new", 2, "-n and --checkpoint choose among the weights of one model folder"),
    ("average -o new", 2, "MODEL... is missing"),
    ("export missing --to ctranslate2 -o new", 4, "missing: does not exist"),
    ("export model --to ctranslate2 -o train.src", 2, "train.src: is there already; name another folder"),
    ("export model --to marian -o new", 2, "--to: 'marian' is not one of"),
    ("export model --to huggingface --quantization int8 -o new", 2, "--quantization is for --to ctranslate2"),
    ("export model --to ctranslate2 --tag de -o new", 2, "--tag is for --to huggingface"),
    ("export model --to huggingface --tag de -o new", 2, "the vocabulary has no tag <2de>"),
    ("export model --to ctranslate2 --checkpoint 3 -o new", 4, "model: has no checkpoint 3; kept steps: 4"),
    ("import missing -o new", 4, "missing: does not exist"),
    ("import train.src -o new", 4, "train.src: is a file, not a folder"),
    ("import model -o new", 4, "model: its config.json has no model_type, so it is no model of Hugging Face"),
    ("import model -o train.src", 2, "train.src: is there already; name another folder"),
    ("translate -m missing", 4, "missing: does not exist"),
    ("translate -m model --checkpoint 3", 4, "model: has no checkpoint 3; kept steps: 4"),
    ("score -m model -s longer.src -t train.tgt", 3, "longer.src has 201 lines but train.tgt has 200"),
    ("evaluate train.tgt -i longer.src", 3, "longer.src has 201 lines but train.tgt has 200"),
]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def fails(command: str) -> tuple[int, str]:
    """Run a command that must fail; give its exit code and its line without what every line begins with."""
    result = CliRunner().invoke(app, shlex.split(command))
    *lines, last = result.stderr.split("\n")
    assert last == ""
    # what was done before the fault came may have been told; the fault itself is one line, and the last
    assert [line for line in lines if line.startswith("transduce: error: ")] == lines[-1:]
    assert "Traceback" not in result.stderr
    assert len(lines[-1]) < 500
    return result.exit_code, lines[-1].removeprefix("transduce: error: ")


@pytest.mark.parametrize(("command", "code", "line"), FAULTS, ids=[command for command, _, _ in FAULTS])
def test_a_fault_is_one_line_and_the_code_of_its_kind(work: Path, command: str, code: int, line: str) -> None:
    before = files_of(work)
    given = shlex.split(command)
    tiny = list(TINY_RUN) if given[0] == "train" else []
    if "--tokenizer" in given:  # brings its kind
        tiny = [word for word in tiny if word not in ("--tokenizer-kind", "word")]
    for option in [word for word in given if word.startswith("--")]:  # what the row gives is not given twice
        if option in tiny:
            place = tiny.index(option)
            del tiny[place : place + 2]
    found_code, found = fails(shlex.join([*given, *tiny]))
    assert (found_code, found[: len(line)]) == (code, line)
    assert files_of(work) == before
    assert not (work / "new").exists()


def damaged_config(**values: object) -> Callable[[Path], None]:
    def damage(model: Path) -> None:
        content = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps({**content, **values}))

    return damage


def write(name: str, content: bytes) -> Callable[[Path], None]:
    def damage(model: Path) -> None:
        (model / name).write_bytes(content)

    return damage


def cut(name: str, num_bytes: int) -> Callable[[Path], None]:
    def damage(model: Path) -> None:
        (model / name).write_bytes((model / name).read_bytes()[:-num_bytes])

    return damage


DAMAGES: list[tuple[str, Callable[[Path], None], str]] = [
    ("unknown key", damaged_config(hidden_size=3), "config.json: unknown key 'hidden_size' in the top level"),
    (
        "absurd value",
        damaged_config(source_vocabulary_size=10**15),
        "config.json: source_vocabulary_size (1000000000000000)",
    ),
    ("other vocabulary", damaged_config(source_vocabulary_size=9, target_vocabulary_size=9), "tokenizer.json: has 13"),
    ("garbage config", write("config.json", b"\xff\xfe"), "config.json: cannot be read"),
    ("truncated weights", cut("model.safetensors", 1), "model.safetensors: is damaged or no safetensors file"),
    ("empty weights", write("model.safetensors", b""), "model.safetensors: is damaged or no safetensors file"),
    ("garbage weights", write("model.safetensors", b"x" * 1000), "model.safetensors: is damaged or no safetensors"),
    ("garbage tokenizer", write("tokenizer.json", b"{}"), "tokenizer.json: "),
    ("no tokenizer", lambda model: (model / "tokenizer.json").unlink(), "source_tokenizer.json: is missing"),
    ("garbage metadata", write("metadata.json", b"[1"), "metadata.json: is not JSON"),
]


@pytest.mark.parametrize(("damage", "line"), [row[1:] for row in DAMAGES], ids=[row[0] for row in DAMAGES])
def test_a_damaged_model_is_one_line_whatever_is_done_with_it(
    work: Path, damage: Callable[[Path], None], line: str
) -> None:
    shutil.copytree(work / "model", work / "other")
    damage(work / "model")
    before = files_of(work)
    for command in (
        "translate -m model",
        "inspect model model",
        f"train {FILES} --init-from model {NEW} --threads 1",
        f"average model other {NEW}",
        "score -m model -s train.src -t train.tgt",
    ):
        code, found = fails(command)
        assert code == 4, command
        assert found.startswith(f"model/{line}"), command
        assert files_of(work) == before


def test_weights_of_another_shape_are_named(work: Path) -> None:
    damaged_config(norm_first=False)(work / "model")
    code, found = fails("translate -m model")
    assert code == 4
    assert found.startswith(
        "model/model.safetensors: holds the tensor decoder.final_norm.bias that config.json does not"
    )
    config = json.loads((work / "model/config.json").read_text())
    damaged_config(norm_first=True, decoder={**config["decoder"], "d_ff": 17})(work / "model")
    code, found = fails("translate -m model")
    assert code == 4
    assert "has shape (16, 16), config.json asks for (17, 16)" in found


def test_a_damaged_checkpoint_is_one_line(work: Path) -> None:
    options = shlex.join([*TINY_RUN, "--lr-schedule", "constant"])
    assert CliRunner().invoke(app, shlex.split(f"train {FILES} -o new {options} --max-time 0.0000001")).exit_code == 0
    cut("checkpoints/step-00000001/optimizer.safetensors", 1)(work / "new")
    code, found = fails(f"train {FILES} -o new {options}")
    assert (code, found.startswith("new/checkpoints/step-00000001/optimizer.safetensors: is damaged")) == (4, True)
    (work / "new/training.toml").write_text("lr = {")
    code, found = fails(f"train {FILES} -o new {options}")
    assert (code, found.startswith("new/training.toml: cannot be read")) == (4, True)


def test_a_folder_that_cannot_be_written_to_is_one_line(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_folder = Path.mkdir

    def read_only(path: Path, mode: int = 0o777, **options: bool) -> None:
        if path.name == "new":  # whoever runs the tests may be allowed everything
            raise PermissionError(13, "Permission denied", str(path))
        make_folder(path, mode, **options)

    monkeypatch.setattr(Path, "mkdir", read_only)
    before = files_of(work)
    assert fails(shlex.join(["train", *shlex.split(FILES), "-o", "new", *TINY_RUN])) == (1, "new: permission denied")
    assert files_of(work) == before


@pytest.mark.parametrize("max_bytes", [100, 2_000, 12_000, 20_000])
def test_a_disk_that_is_full_is_one_line_and_nothing_half_written(work: Path, max_bytes: int) -> None:
    """The system refuses to let a file grow beyond a limit: the tokenizer, a corpus, weights, the optimizer's state."""
    before = files_of(work)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, limits[1]))
    try:
        code, found = fails(shlex.join(["train", "-q", *shlex.split(FILES), "-o", "new", *TINY_RUN]))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert code == 1
    assert found.endswith(": File too large")
    assert ".tmp" not in found
    assert not list(work.rglob(".*"))
    left = {name: content for name, content in files_of(work).items() if not name.startswith("new/")}
    assert left == before
    # the same command goes on as if nothing had been
    result = CliRunner().invoke(app, ["train", *shlex.split(FILES), "-o", "new", *TINY_RUN])
    assert result.exit_code == 0, result.stderr


def test_an_unforeseen_fault_says_that_it_is_ours(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr(f"{train_from_text.__module__}.describe_data", broken)
    code, found = fails(f"train {FILES} -o new --threads 1")
    assert code == 1
    assert found.startswith("this is a fault of transduce, not yours: ZeroDivisionError: division by zero")
