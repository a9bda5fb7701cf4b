import shlex
from pathlib import Path

from typer.testing import CliRunner

from cli.main import app
from tests.training_task import TINY_RUN, write_lines, write_task
from tests.transformer_core.decoding.random_model import save_word_model


def invoke(*arguments: str | Path, stdin: str = "") -> tuple[int, str, str]:
    result = CliRunner().invoke(app, [*map(str, arguments)], input=stdin)
    return result.exit_code, result.stdout_bytes.decode(), result.stderr


def succeed(*arguments: str | Path) -> list[str]:
    """Run a command that must go well; give what was said on stderr."""
    code, stdout, stderr = invoke(*arguments)
    assert code == 0, stderr
    assert stdout == ""
    return stderr.splitlines()


def fail(*arguments: str | Path, code: int = 2) -> str:
    """Run a command that must fail in one line; give the line."""
    found, stdout, stderr = invoke(*arguments)
    assert (found, stdout, stderr.count("\n")) == (code, "", 1), stderr
    return stderr.removeprefix("transduce: error: ").rstrip("\n")


def pairs_of(folder: Path) -> list[str | Path]:
    source, target = write_task(folder)
    return ["-s", source, "-t", target, "--tokenizer-kind", "word"]


WITHOUT_KIND = TINY_RUN[2:]  # of the tokenizer


def test_from_two_files_to_a_folder_to_a_model(tmp_path: Path) -> None:
    folder, model = tmp_path / "folder", tmp_path / "model"
    said = succeed("prepare", *pairs_of(tmp_path), "-o", folder)
    assert said[0] == "learned a joint word vocabulary of 13 entries from the training text"
    assert said[1].startswith("training: 190 pairs, ")
    assert said[-1] == f"{folder} is ready: transduce train --data {folder} -o model"
    assert succeed("prepare", *pairs_of(tmp_path), "-o", folder) == [
        f"{folder} holds this already; --overwrite makes it anew"
    ]
    assert succeed("train", "--data", folder, "-o", model, *WITHOUT_KIND)[-1].startswith("all 20 steps are done")
    succeed("train", "-c", model / "training.toml", "-o", tmp_path / "copy")
    assert (tmp_path / "copy/model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()


def test_from_raw_text_to_a_folder_to_an_encoder(tmp_path: Path) -> None:
    source, _ = write_task(tmp_path)
    said = succeed("prepare", "-i", source, "-o", tmp_path / "folder", "--valid", source, "--tokenizer-kind", "word")
    assert said[-1] == f"{tmp_path}/folder is ready: transduce pretrain --data {tmp_path}/folder -o model"
    options = [*WITHOUT_KIND, "--max-steps", "2"]
    assert succeed("pretrain", "--data", tmp_path / "folder", "-o", tmp_path / "model", *options)
    assert "holds lines" in fail("train", "--data", tmp_path / "folder", "-o", tmp_path / "other", *options)


def test_quiet_is_silent_and_the_number_of_threads_changes_nothing(tmp_path: Path) -> None:
    for threads in ("1", "2"):
        options: list[str | Path] = ["-o", tmp_path / threads, "--threads", threads]
        assert succeed("-q", "prepare", *pairs_of(tmp_path), *options) == []
    for name in ("train/shard-00000.safetensors", "tokenizer.json", "train/corpus.json"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


def test_what_does_not_go_together_is_said(tmp_path: Path) -> None:
    source, target = write_task(tmp_path)
    folder = tmp_path / "folder"
    both: list[str | Path] = ["-s", source, "-t", target]
    nothing = "there is no text to prepare: give --train-src FILE and --train-tgt FILE, or --input FILE"
    for some in ([], both[:2], both[2:4], ["-t", source, "--input-format", "tsv"]):
        assert fail("prepare", *some, "-o", folder) == nothing
    assert fail("prepare", "-i", source, *both, "-o", folder) == (
        "--train-src goes with pairs of lines, not with --input"
    )
    assert fail("prepare", *both, "--valid", source, "-o", folder) == "--valid goes with --input"
    assert fail("prepare", *both, "--weights", "1", "--weights", "2", "-o", folder) == (
        "there are 2 weights; give --weights once for each pair of training files (1)"
    )
    assert fail("prepare", *both, "--weights", "0", "-o", folder).startswith("--weights must be above 0")
    assert "cannot be a tag" in fail("prepare", *both, "--tag", "a b", "-o", folder)
    assert "there are 2 tags, 1 pairs of training files" in fail(
        "prepare", *both, "--tag", "a", "--tag", "b", "-o", folder
    )
    assert fail("train", "--data", folder, "-o", tmp_path / "model", code=3).startswith(f"{folder}: is no folder of")
    assert fail("train", "--data", folder, "-s", source, "-o", tmp_path / "model") == (
        f"--data {folder} brings text and tokenizers; leave out --train-src"
    )
    assert fail("prepare", "-s", tmp_path / "none", "-t", target, "-o", folder, code=3) == (
        f"{tmp_path}/none: there is no such file"
    )
    assert not folder.exists()


def test_weights_and_tags_come_with_the_folder(tmp_path: Path) -> None:
    source, target = write_task(tmp_path)
    texts: list[str | Path] = ["-s", source, "-t", source, "-s", source, "-t", target, "--tag", "copy", "--tag", "rev"]
    options: list[str | Path] = [
        "--weights",
        "1",
        "--weight",
        "2",
        "--tokenizer-kind",
        "word",
        "-o",
        tmp_path / "folder",
    ]
    succeed("prepare", *texts, *options)
    model = tmp_path / "model"
    succeed("train", "--data", tmp_path / "folder", "-o", model, *WITHOUT_KIND, "--metric", "exact")
    assert fail("translate", "-m", model) == "this model translates in several directions; say which: --tag copy or rev"
    assert fail("translate", "-m", model, "--tag", "de").startswith("the vocabulary has no tag <2de> (de)")
    found = [invoke("translate", "-m", model, "--tag", tag, stdin="a b c\n\n") for tag in ("copy", "rev")]
    assert all((code, stdout.count("\n")) == (0, 2) for code, stdout, _ in found)  # it has learned nothing: long lines


# --- The tag where a model is used


def test_translate_score_and_attention_take_a_tag(tmp_path: Path) -> None:
    model = save_word_model(tmp_path / "model")
    lines = write_lines(tmp_path / "lines", ["ba be", "bi"])
    commands: dict[str, list[str | Path]] = {
        "translate": ["-i", lines],
        "score": ["--src", lines, "--tgt", lines],
        "inspect attention": ["ba be"],
    }
    for command, arguments in commands.items():
        message = fail(*shlex.split(command), "-m", model, *arguments, "--tag", "de")
        assert message == "the vocabulary has no tag <2de> (de); it has none"
