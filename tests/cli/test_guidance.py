import json
from pathlib import Path

import pytest

from tests.cli.test_translate import LINES, MAX_LENGTH, invoke, model, results, texts
from tests.transformer_core.decoding.random_model import random_model, save_word_model, word_model, word_tokenizer
from transformer_core.decoding.alignment import Aligner
from transformer_core.decoding.config import LineGuide, SearchConfig
from transformer_core.decoding.translator import Translator
from transformer_core.evaluation.minimum_bayes_risk import expected_utilities
from transformer_core.model_directory import weights_of
from transformer_core.weight_file import write_weights

__all__ = ["model"]  # the fixture

BEAM = SearchConfig(max_length=12)


def objects(lines: list[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in lines]


def guided(config: SearchConfig, guide: LineGuide) -> list[str]:
    translator = Translator(word_model(), word_tokenizer(), word_tokenizer(), config)
    return [found.text for found in translator.translate(LINES, 1, [guide] * len(LINES))]


@pytest.mark.parametrize(
    ("flags", "config", "guide"),
    [
        (["--no-repeat-ngram", "1"], SearchConfig(max_length=12, no_repeat_ngram=1), LineGuide()),
        (["--repetition-penalty", "1.5"], SearchConfig(max_length=12, repetition_penalty=1.5), LineGuide()),
        (
            ["-b", "6", "--beam-groups", "3", "--diversity-penalty", "1"],
            SearchConfig(max_length=12, beam_size=6, beam_groups=3, diversity_penalty=1.0),
            LineGuide(),
        ),
        (["--target-prefix", "ki lo"], BEAM, LineGuide(prefix="ki lo")),
        (["--constraint", "ki lo", "--constraint", "de"], BEAM, LineGuide(constraints=("ki lo", "de"))),
        (
            ["--constraint", "ki", "--constraint", "de", "--ordered-constraints"],
            BEAM,
            LineGuide(constraints=("ki", "de"), is_ordered=True),
        ),
        (["--avoid", "ba", "--avoid", "ki lo"], BEAM, LineGuide(avoid=("ba", "ki lo"))),
    ],
    ids=str,
)
def test_options_reach_the_search(model: Path, flags: list[str], config: SearchConfig, guide: LineGuide) -> None:
    found = results("-m", model, *flags, *MAX_LENGTH)
    assert found == guided(config, guide)
    assert found != texts(BEAM) or "--avoid" in flags


def test_a_line_may_ask_for_itself(model: Path) -> None:
    asked = [
        {"text": LINES[0], "target_prefix": "ki lo"},
        {"text": LINES[1], "constraints": ["de fa"], "id": 7},
        {"text": LINES[2]},
        {"text": "", "constraints": ["de fa"]},
    ]
    stdin = "".join(f"{json.dumps(each)}\n" for each in asked).encode()
    code, stdout, stderr = invoke("-m", model, "--input-format", "jsonl", *MAX_LENGTH, stdin=stdin)
    assert code == 0
    first, second, third, blank = objects(stdout.split("\n")[:-1])
    assert str(first["translation"]).startswith("ki lo")
    assert "de fa" in str(second["translation"])
    assert second["id"] == 7
    assert third["translation"] == texts(BEAM)[2]
    assert not {"unmet"} & (set(first) | set(second) | set(third))
    assert blank["unmet"] == ["de fa"]  # a blank line is blank
    assert "line 4 translated without a constraint" in stderr


def test_the_options_hold_for_every_line_and_a_prefix_of_its_own_goes_first(model: Path) -> None:
    asked = [{"text": LINES[0], "target_prefix": "ki"}, {"text": LINES[1], "avoid": ["ba"]}]
    stdin = "".join(f"{json.dumps(each)}\n" for each in asked).encode()
    flags = ["--target-prefix", "de", "--constraint", "lo"]
    found = objects(results("-m", model, "--input-format", "jsonl", *flags, *MAX_LENGTH, stdin=stdin))
    assert [str(each["translation"]).split()[0] for each in found] == ["ki", "de"]
    assert all("lo" in str(each["translation"]).split() for each in found)


def test_the_candidate_that_agrees_most_is_put_first(model: Path) -> None:
    flags = ["--sample", "--n-best", "8", "--seed", "3", *MAX_LENGTH]
    plain = objects(results("-m", model, *flags, "--format", "jsonl"))
    chosen = objects(results("-m", model, *flags, "--mbr", "chrf", "--format", "jsonl"))
    for before, after in zip(plain, chosen, strict=True):
        candidates = before.get("translations")
        assert isinstance(candidates, list) and isinstance(after["translations"], list)
        utilities = expected_utilities(candidates, "chrf")
        assert after["translation"] == candidates[utilities.index(max(utilities))]
        assert sorted(after["translations"]) == sorted(candidates)
    assert [each["translation"] for each in chosen] != [each["translation"] for each in plain]
    assert results("-m", model, *flags, "--mbr", "chrf") == [each["translation"] for each in chosen]


def test_words_are_aligned(model: Path) -> None:
    found = objects(results("-m", model, "--alignments", "--n-best", "2", "--format", "jsonl", *MAX_LENGTH))
    aligner = Aligner(word_model(), word_tokenizer(), word_tokenizer())
    for line, each in zip(LINES, found, strict=True):
        assert isinstance(each["translations"], list)
        ids = [word_tokenizer().encode(text) for text in each["translations"]]
        expected = aligner.align([(line, [of_text] * bool(line.strip())) for of_text in ids], [1] * len(ids))
        assert each["alignments"] == [" ".join(f"{i}-{j}" for i, j in alignment) for alignment in expected]
    first = str(found[0]["alignments"][0])  # type: ignore[index]
    tsv = results("-m", model, "--alignments", "--format", "tsv", *MAX_LENGTH)
    assert tsv[0].split("\t")[-1] == first
    moses = results("-m", model, "--alignments", "--format", "moses", *MAX_LENGTH)
    assert moses[0].split(" ||| ")[-1] == first


def test_several_models_decode_together(model: Path, tmp_path: Path) -> None:
    other = save_word_model(tmp_path / "other")
    second = random_model(word_tokenizer().vocabulary_size, seed=4)
    write_weights(other / "model.safetensors", weights_of(second))
    found = results("-m", model, "-m", other, *MAX_LENGTH)
    together = Translator([word_model(), second], word_tokenizer(), word_tokenizer(), BEAM)
    assert found == [each.text for each in together.translate(LINES)]
    assert found != texts(BEAM)
    assert results("-m", model, "-m", model, *MAX_LENGTH) == texts(BEAM)


@pytest.mark.parametrize("flags", [[], ["--buffer-size", "1"], ["--workers", "2", "--buffer-size", "2"]], ids=str)
def test_a_line_that_asks_for_what_cannot_be_is_named_behind_those_before_it(model: Path, flags: list[str]) -> None:
    asked = [{"text": "ba"}, {"text": "be"}, {"text": "bi", "constraints": ["ki"]}, {"text": "bo"}]
    stdin = "".join(f"{json.dumps(each)}\n" for each in asked).encode()
    code, stdout, stderr = invoke("-m", model, "--greedy", "--input-format", "jsonl", *flags, stdin=stdin)
    assert (code, stdout.count("\n")) == (3, 2)
    assert stderr.startswith("transduce: error: standard input:3: asks for constraints, which are met by beam search")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--greedy", "--constraint", "ki"], "constraints are met by beam search: give a --beam-size above 1"),
        (["-b", "4", "--beam-groups", "3"], "beam_groups (3) must divide beam_size (4)"),
        (["--repetition-penalty", "0.5"], "repetition_penalty (0.5) must be at least 1"),
        (["--alignments"], "--alignments needs --format tsv, jsonl or moses"),
        (["--mbr", "chrf"], "--mbr chooses among several translations: give --n-best 2 or more"),
        (["--avoid", " "], "avoid: a phrase is blank"),
        (["--ordered-constraints"], "--ordered-constraints needs --constraint"),
        (["--greedy", "--early-stopping"], "--early-stopping needs a --beam-size above 1"),
        (["--diversity-penalty", "1"], "--diversity-penalty needs --beam-groups above 1"),
    ],
    ids=str,
)
def test_what_cannot_be_is_said_in_one_line(model: Path, flags: list[str], message: str) -> None:
    code, stdout, stderr = invoke("-m", model, *flags)
    assert (code, stdout) == (2, "")
    assert message in stderr
    assert stderr.count("\n") == 1


def test_models_with_other_vocabularies_do_not_decode_together(model: Path, tmp_path: Path) -> None:
    from tokenizer import TokenizerConfig, train_tokenizer
    from transformer_core.model_files import save_architecture

    other = save_word_model(tmp_path / "other")
    tokenizer = train_tokenizer(["xx yy zz"], TokenizerConfig(kind="word", vocabulary_size=8))
    odd = random_model(tokenizer.vocabulary_size)
    save_architecture(other, odd.config, tokenizer, tokenizer)
    write_weights(other / "model.safetensors", weights_of(odd))
    code, stdout, stderr = invoke("-m", model, "-m", other)
    assert (code, stdout) == (2, "")
    assert f"{other} has another source vocabulary than {model}" in stderr
