import json
import re
import sys
from pathlib import Path

import numpy
import pytest
import torch
from typer.testing import CliRunner

from cli.main import app
from tests.terminal import run_on_terminal, without_colors
from tests.transformer_core.decoding.random_model import save_word_model, word_model, word_tokenizer
from tests.transformer_core.small_config import small_config, small_stack
from tokenizer import SPECIAL_TOKENS
from transformer_core.decoding.config import SearchConfig
from transformer_core.decoding.translator import Translator
from transformer_core.inspection.attention import Target, read_attention
from transformer_core.inspection.attention_maps import SentenceAttention
from transformer_core.lexicon.shortlist import Shortlist
from transformer_core.model import Transformer
from transformer_core.model_directory import weights_of
from transformer_core.model_files import SHORTLIST_FILE, save_architecture
from transformer_core.weight_file import write_weights

SENTENCE = "ba de ko mu"
TARGET = "nu so"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_word_model(tmp_path_factory.mktemp("attention") / "en-de", beam_size=2)


def invoke(*arguments: str | Path, stdin: bytes = b"") -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["inspect", "attention", *map(str, arguments)], input=stdin)
    return result.exit_code, result.stdout_bytes.decode(), result.stderr


def results(*arguments: str | Path, stdin: bytes = b"") -> str:
    code, stdout, stderr = invoke(*arguments, stdin=stdin)
    assert (code, stderr) == (0, "")
    return stdout


def expected(target: str | None = TARGET) -> SentenceAttention:
    tokenizers = (word_tokenizer(), word_tokenizer())
    if target is not None:
        given = Target(text=target, token_ids=word_tokenizer().encode(target), is_decoded=False)
        return read_attention(word_model(), tokenizers, SENTENCE, given)
    search = SearchConfig(beam_size=2)
    best = Translator(word_model(), *tokenizers, search).translate([SENTENCE])[0].hypotheses[0]
    decoded = Target(text=best.text, token_ids=best.token_ids, is_decoded=True)
    return read_attention(word_model(), tokenizers, SENTENCE, decoded)


def test_in_a_pipe_it_is_a_table(model: Path) -> None:
    attention = expected()
    rows = [line.split("\t") for line in results("-m", model, SENTENCE, "--target", TARGET).split("\n")]
    assert rows[0] == ["layer", "head", "token", *attention.columns("cross")]
    assert [row[:3] for row in rows[1:-1]] == [["2", "mean", token] for token in attention.rows("cross")]
    (chosen,) = attention.select("cross")
    numpy.testing.assert_allclose(numpy.array([row[3:] for row in rows[1:-1]], float), chosen.weights, atol=1e-4)


def test_every_map_that_is_asked_for_follows_in_the_table(model: Path) -> None:
    options = ["--kind", "encoder", "--layer", "all", "--head", "all"]
    rows = [line.split("\t") for line in results("-m", model, SENTENCE, "--target", TARGET, *options).split("\n")[1:-1]]
    tokens = word_tokenizer().tokens(word_tokenizer().encode(SENTENCE))
    assert [row[:3] for row in rows] == [
        [layer, head, token] for layer in "12" for head in "1234" for token in [*tokens, "<eos>"]
    ]


def test_json_is_one_object(model: Path) -> None:
    text = results(
        "-m", model, SENTENCE, "--target", TARGET, "--kind", "decoder", "--layer", "1", "--head", "3", "--json"
    )
    assert text.count("\n") == 1
    attention = expected()
    wanted = attention.to_dict(attention.select("decoder", 1, 3))
    found = json.loads(text)
    numpy.testing.assert_allclose(found["maps"][0].pop("weights"), wanted["maps"][0].pop("weights"), atol=1e-5)
    assert found == json.loads(json.dumps(wanted))


def test_without_a_target_the_model_writes_one_as_translate_does(model: Path) -> None:
    code, stdout, stderr = invoke("-m", model, SENTENCE, "--json")
    cut = "transduce: warning: the model did not end its translation; it is cut off at the length limit\n"
    assert (code, stderr) in ((0, ""), (0, cut))  # random weights
    found = json.loads(stdout)
    attention = expected(None)
    assert (found["target"], found["is_decoded"]) == (attention.target, True)
    assert found["rows"] == list(attention.target_tokens)
    numpy.testing.assert_allclose(found["maps"][0]["weights"], attention.select("cross")[0].weights, atol=1e-5)
    translated = CliRunner().invoke(app, ["translate", "-m", str(model)], input=f"{SENTENCE}\n")
    assert translated.stdout == f"{found['target']}\n"


def test_the_sentence_may_come_through_a_pipe(model: Path) -> None:
    given = results("-m", model, SENTENCE, "--target", TARGET)
    for end in (b"", b"\n", b"\r\n"):
        assert results("-m", model, "--target", TARGET, stdin=SENTENCE.encode() + end) == given
    code, stdout, stderr = invoke("-m", model, "--target", TARGET, stdin=b"ba \xff\n")
    assert code == 0 and stdout
    assert stderr == "transduce: warning: 1 line with bytes that are not UTF-8: U+FFFD stands in their place\n"


def test_figures_and_pages_are_files(model: Path, tmp_path: Path) -> None:
    figure, page = tmp_path / "map.svg", tmp_path / "map.html"
    assert results("-m", model, SENTENCE, "--target", TARGET, "--plot", figure, "--html", page) == ""
    assert ">▁nu<" in figure.read_text(encoding="utf-8")
    text = page.read_text(encoding="utf-8")
    assert "<title>What en-de attends to</title>" in text
    assert '"start":{"kind":"cross","layer":2,"head":"mean"}' in text
    both = results("-m", model, SENTENCE, "--target", TARGET, "--html", page, "--head", "2", "--json")
    assert json.loads(both)["maps"][0]["head"] == 2
    assert '"start":{"kind":"cross","layer":2,"head":2}' in page.read_text(encoding="utf-8")


def test_what_no_font_has_is_said_for_a_picture(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformer_core.inspection import fonts

    monkeypatch.setattr(fonts, "without_font", lambda labels: "bd" if "▁ba" in list(labels) else "")
    for suffix, warnings in ((".png", 1), (".svg", 0)):
        code, stdout, stderr = invoke("-m", model, SENTENCE, "--target", TARGET, "--plot", tmp_path / f"map{suffix}")
        assert (code, stdout, stderr.count("no font on this machine has bd; boxes stand")) == (0, "", warnings)


@pytest.mark.parametrize(("columns", "has_color"), [(80, False), (140, True)])
def test_on_a_terminal_it_is_a_heat_map(model: Path, columns: int, has_color: bool) -> None:
    attention = expected()
    options = ("-m", model, SENTENCE, "--target", TARGET, "--layer", "all")
    shown = run_on_terminal("inspect", "attention", *options, columns=columns, has_color=has_color)
    assert ("\x1b[48;5;" in shown) == has_color
    head, *blocks = without_colors(shown).rstrip("\n").split("\n\n")
    assert head.split("\n") == [f"source  {SENTENCE}", f"target  {TARGET}"]
    for block, item in zip(blocks, attention.select("cross", "all"), strict=True):
        title, labels, *rows, _ = block.split("\n")
        assert title == f"{item}, per cent"
        assert labels.split() == list(attention.columns("cross"))
        assert [row.split()[0] for row in rows] == list(attention.rows("cross"))
        for row, weights in zip(rows, item.weights.tolist(), strict=True):
            numbers = [round(100 * weight) for weight in weights if weight >= 0.005]
            assert [int(number) for number in re.findall("[0-9]+", row)] == numbers


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        ([""], 3, "the sentence is blank: there is nothing that could be attended to"),
        (["ba\nde"], 3, "SENTENCE has more than one line; attention is looked at for one sentence"),
        (["ba", "--target", "a\nb"], 3, "--target has more than one line; attention is looked at for one sentence"),
        (["ba", "--target", "de", "--layer", "3"], 2, "there is no layer 3: the decoder has layers 1 to 2"),
        (["ba", "--target", "de", "--head", "5"], 2, "there is no head 5: each layer of the decoder has heads 1 to 4"),
        (["ba", "--layer", "0"], 2, "--layer: '0' is none; use a number from 1, last or all"),
        (["ba", "--head", "first"], 2, "--head: 'first' is none; use a number from 1, mean or all"),
        (["ba", "--kind", "crss"], 2, "--kind: 'crss' is not one of encoder, decoder, cross; did you mean 'cross'?"),
        (["ba", "--plot", "map.pdf"], 2, "map.pdf: a figure is a .png or a .svg"),
        (["ba", "--html", "map"], 2, "map: a page is a .html"),
        (["ba", "--target", "de", "--html", "no/map.html"], 3, "no/map.html: there is no folder "),
        (["ba", "--checkpoint", "7"], 4, "has no checkpoint 7; kept steps: none"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(model: Path, arguments: list[str], code: int, line: str) -> None:
    found, stdout, stderr = invoke("-m", model, *arguments)
    assert (found, stdout) == (code, "")
    assert stderr.startswith("transduce: error: ") and line in stderr
    assert stderr.count("\n") == 1


def test_two_lines_on_standard_input_are_not_one_sentence(model: Path) -> None:
    code, _, stderr = invoke("-m", model, stdin=b"ba\nde\n")
    assert (code, stderr.count("\n")) == (3, 1)
    assert "standard input: has more than one line" in stderr
    assert invoke("-m", model, stdin=b"")[0] == 3


def test_without_matplotlib_the_extra_is_named(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    code, _, stderr = invoke("-m", model, "ba", "--plot", tmp_path / "map.png")
    assert (code, stderr) == (2, "transduce: error: --plot needs a package: pip install 'transduce[plots]'\n")
    assert results("-m", model, "ba", "--target", "de", "--html", tmp_path / "map.html") == ""


def test_a_model_that_mixes_otherwise_has_cross_attention_alone(tmp_path: Path) -> None:
    size = word_tokenizer().vocabulary_size
    config = small_config(
        encoder=small_stack(mixer="gru"),
        decoder=small_stack(mixer="ssru"),
        source_vocabulary_size=size,
        target_vocabulary_size=size,
    )
    save_architecture(tmp_path, config, word_tokenizer(), word_tokenizer())
    write_weights(tmp_path / "model.safetensors", weights_of(Transformer(config)))
    assert results("-m", tmp_path, "ba", "--target", "de").startswith("layer\thead\ttoken\t▁ba\t<eos>\n")
    for kind, mixer in (("encoder", "gru"), ("decoder", "ssru")):
        code, _, stderr = invoke("-m", tmp_path, "ba", "--target", "de", "--kind", kind)
        line = f"the {kind} mixes by {mixer} and has no self-attention; take --kind cross"
        assert (code, stderr) == (2, f"transduce: error: {line}\n")


def test_an_encoder_alone_has_its_self_attention_and_writes_nothing(tmp_path: Path) -> None:
    size = word_tokenizer().vocabulary_size
    config = small_config(
        decoder=small_stack(num_layers=0),
        tie_embeddings="all",
        source_vocabulary_size=size,
        target_vocabulary_size=size,
    )
    save_architecture(tmp_path, config, word_tokenizer(), word_tokenizer())
    write_weights(tmp_path / "model.safetensors", weights_of(Transformer(config)))
    page = tmp_path / "page.html"
    found = json.loads(results("-m", tmp_path, "ba <mask>", "--kind", "encoder", "--json", "--html", page))
    assert (found["target"], found["rows"]) == (None, ["▁ba", "<mask>", "<eos>"])
    assert "encoder" in page.read_text(encoding="utf-8")
    for options, line in (
        ([], "the model is an encoder without a decoder; take --kind encoder"),
        (["--target", "de"], "the model is an encoder without a decoder, which writes nothing; leave out --target"),
    ):
        assert invoke("-m", tmp_path, "ba", *options) == (2, "", f"transduce: error: {line}\n")


def test_damaged_decoding_defaults_are_the_models_fault(tmp_path: Path) -> None:
    folder = save_word_model(tmp_path / "model", beam_size="many")
    code, _, stderr = invoke("-m", folder, "ba")
    assert (code, stderr.count("\n")) == (4, 1)
    assert stderr.startswith("transduce: error: generation.json: ")


def test_a_model_that_chooses_among_a_shortlist_does_so_here(tmp_path: Path) -> None:
    folder, tokenizer = save_word_model(tmp_path / "model", shortlist=True, max_length=8), word_tokenizer()
    always = [*range(len(SPECIAL_TOKENS)), *tokenizer.encode("ki lo")]
    offsets = torch.zeros(tokenizer.vocabulary_size + 1, dtype=torch.int64)
    shortlist = Shortlist(offsets, torch.empty(0, dtype=torch.int32), torch.tensor(always, dtype=torch.int32))
    code, _, stderr = invoke("-m", folder, SENTENCE)
    assert (code, stderr.count("\n")) == (4, 1)
    assert f"{folder}/shortlist.safetensors: is missing" in stderr
    shortlist.save(folder / SHORTLIST_FILE, tokenizer, tokenizer)
    code, stdout, _ = invoke("-m", folder, SENTENCE, "--json")
    translated = CliRunner().invoke(app, ["translate", "-m", str(folder)], input=f"{SENTENCE}\n")
    assert (code, json.loads(stdout)["target"]) == (0, translated.stdout.removesuffix("\n"))
    assert set(json.loads(stdout)["target"].split()) <= {"ki", "lo", "\u2047"}
