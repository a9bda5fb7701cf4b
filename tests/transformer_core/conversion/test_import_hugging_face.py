import json
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.transformer_core.conversion.models import LINES as ALL_LINES
from tests.transformer_core.conversion.models import MAX_LENGTH, ended, never_writing_special_tokens, translate
from tests.transformer_core.decoding.random_model import random_lines
from transformer_core.conversion.export_ctranslate2 import export_ctranslate2
from transformer_core.conversion.export_hugging_face import export_hugging_face
from transformer_core.conversion.foreign_vocabulary import Direction, read_vocabularies
from transformer_core.conversion.hugging_face_tokenizer import write_tokenizers
from transformer_core.conversion.import_folder import import_folder
from transformer_core.conversion.vocabulary_files import M2M100_LANGUAGES
from transformer_core.data.padding import pad
from transformer_core.decoding.config import BatchConfig, SearchConfig
from transformer_core.decoding.generation import model_search
from transformer_core.decoding.scoring import Scorer
from transformer_core.decoding.translation import Translation
from transformer_core.decoding.translator import Translator
from transformer_core.errors import ConfigError, ModelError
from transformer_core.model_directory import LoadedModel, load_model

pytest.importorskip("transformers")
from tests.transformer_core.conversion.foreign_models import (
    save_bart,
    save_m2m100,
    save_marian,
    save_nllb,
    transformers,
)

MAKERS = {"marian": save_marian, "m2m100": save_m2m100, "nllb": save_nllb, "bart": save_bart}
DIRECTIONS = {
    "m2m100": Direction(source="en", target="de"),
    "nllb": Direction(source="eng_Latn", target="deu_Latn"),
}
pytestmark = pytest.mark.filterwarnings("ignore:Recommended:UserWarning")
LINES = [line for line in ALL_LINES if "<" not in line]  # `transformers` takes "<pad>" in a line for padding
TARGETS = random_lines(len(LINES), seed=4, longest=6)


@pytest.fixture(scope="module", params=MAKERS)
def pair(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Any, Any, LoadedModel, Path]:
    """A model of Hugging Face with its tokenizer, and the same one imported."""
    folder = tmp_path_factory.mktemp(request.param)
    model = MAKERS[request.param](folder / "theirs")
    direction = DIRECTIONS.get(request.param, Direction())
    import_folder(folder / "theirs", folder / "ours", direction)
    auto = transformers.AutoTokenizer.from_pretrained(folder / "theirs")
    if request.param in DIRECTIONS:
        auto.src_lang, auto.tgt_lang = direction.source, direction.target
    return model, auto, load_model(folder / "ours"), folder


def search(loaded: LoadedModel, beam_size: int) -> list[Translation]:
    """Translate as `transformers` does."""
    return translate(loaded, LINES, beam_size=beam_size, n_best=beam_size, early_stopping=True)


def order_of(folder: Path) -> list[int]:
    """The foreign id of each of our entries; -1 where there is none."""
    config = json.loads((folder / "theirs" / "config.json").read_text())
    vocabulary = read_vocabularies(folder / "theirs", config, config["vocab_size"])
    return [-1 if index is None else index for index in vocabulary.order]


def test_lines_become_the_same_tokens(pair: tuple[Any, Any, LoadedModel, Path]) -> None:
    _, auto, loaded, folder = pair
    order = order_of(folder)
    for line in LINES[:12]:
        ours = [*loaded.source_tokenizer.encode(line), loaded.source_tokenizer.eos_id]
        assert [order[index] for index in ours] == auto(line)["input_ids"]
    for line in TARGETS[:12]:
        ours = [*loaded.target_tokenizer.encode(line), loaded.target_tokenizer.eos_id]
        assert [order[index] for index in ours] == auto(text_target=line)["input_ids"]


def test_logits_are_the_same(pair: tuple[Any, Any, LoadedModel, Path]) -> None:
    model, _, loaded, folder = pair
    order = torch.tensor(order_of(folder))
    tokens = loaded.target_tokenizer
    rows = [[*ids, tokens.eos_id] for ids in loaded.source_tokenizer.encode_batch(LINES)]
    source, mask = pad(rows, tokens.pad_id, torch.device("cpu"))
    starts = [[tokens.bos_id, *ids] for ids in tokens.encode_batch(TARGETS)]
    target, _ = pad(starts, tokens.pad_id, torch.device("cpu"))
    known = order >= 0
    with torch.inference_mode():
        ours = loaded.model.project(loaded.model(source, mask, target))
        assert mask is not None
        found = model(
            input_ids=order[source],
            attention_mask=mask,
            decoder_input_ids=order[target],
        ).logits
    for row, ids in enumerate(starts):
        expected = found[row, : len(ids), order[known]]
        torch.testing.assert_close(ours[row, : len(ids), known], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("beam_size", [1, 4])
def test_translations_are_the_same(pair: tuple[Any, Any, LoadedModel, Path], beam_size: int) -> None:
    model, auto, loaded, folder = pair
    translations = search(loaded, beam_size)
    lines = ended(translations) if beam_size > 1 else list(range(len(LINES)))  # what is cut off is the same in greedy
    assert len({translations[index].text for index in lines}) >= 2
    order = order_of(folder)
    tokens = loaded.target_tokenizer
    never = {tokens.pad_id, tokens.bos_id, tokens.mask_id, *tokens.tags.values()} - {tokens.eos_id}
    never -= set(tokens.first_ids)
    options: dict[str, Any] = {"suppress_tokens": [order[index] for index in never if order[index] >= 0]}
    if tokens.first_ids:
        options["forced_bos_token_id"] = order[tokens.first_ids[0]]
    batch = auto([LINES[index] for index in lines], return_tensors="pt", padding=True)
    found = model.generate(**batch, num_beams=beam_size, max_length=32, early_stopping=True, **options)
    for index, row in zip(lines, found.tolist(), strict=True):
        ours = [order[token] for token in translations[index].hypotheses[0].token_ids]
        assert row[1 : len(ours) + 1] == ours
        assert translations[index].hypotheses[0].is_truncated or row[len(ours) + 1] == model.config.eos_token_id


def test_score_gives_what_translate_gives(pair: tuple[Any, Any, LoadedModel, Path]) -> None:
    _, _, loaded, _ = pair
    scorer = Scorer(loaded.model, loaded.source_tokenizer, loaded.target_tokenizer)
    translations = search(loaded, 1)
    for index in ended(translations):
        best = translations[index].hypotheses[0]
        if list(best.token_ids) == loaded.target_tokenizer.encode(best.text):
            assert scorer.score([(LINES[index], best.text)])[0].log_probability == pytest.approx(
                best.log_probability, abs=1e-4
            )


def test_what_was_imported_can_be_exported_again(pair: tuple[Any, Any, LoadedModel, Path], tmp_path: Path) -> None:
    model, auto, loaded, _ = pair
    if not isinstance(auto, transformers.MarianTokenizer | transformers.M2M100Tokenizer):
        with pytest.raises(ModelError, match="cannot be written with the tokenizer"):
            export_hugging_face(loaded, tmp_path / "again", SearchConfig())
        return
    export_hugging_face(loaded, tmp_path / "again", SearchConfig(early_stopping=True))
    again = transformers.AutoModelForSeq2SeqLM.from_pretrained(tmp_path / "again").eval()
    tokens = transformers.AutoTokenizer.from_pretrained(tmp_path / "again")
    assert type(again) is type(model)
    options: dict[str, Any] = {}
    if model.config.model_type == "m2m_100":
        options = {"forced_bos_token_id": auto.get_lang_id("de")}
    texts = [
        each.batch_decode(
            written.generate(**each(LINES[:6], return_tensors="pt", padding=True), num_beams=1, max_length=12, **more),
            skip_special_tokens=True,
        )
        for written, each, more in ((model, auto, options), (again, tokens, {}))
    ]
    assert tokens.pad_token_id not in tokens("ba <pad> de")["input_ids"]  # a line that spells it is just a line
    # rows without a name are unknown in one folder and have a name in the other
    texts = [[text.replace(" ", "") for text in of_model] for of_model in texts]  # there is one beside <unk>
    assert texts[0] == [re.sub(r"<unused-\d+>", "<unk>", text) for text in texts[1]]


def test_what_was_imported_goes_to_ctranslate2(pair: tuple[Any, Any, LoadedModel, Path], tmp_path: Path) -> None:
    ctranslate2 = pytest.importorskip("ctranslate2")
    _, _, loaded, _ = pair
    export_ctranslate2(loaded, tmp_path / "theirs")
    source, target = (tokens.imported for tokens in (loaded.source_tokenizer, loaded.target_tokenizer))
    assert source is not None
    assert target is not None
    first = [target.foreign_names[index] for index in loaded.target_tokenizer.first_ids]
    beam_size = 1 if first else 4  # its beam may pass over an end that comes right after a prefix
    expected = search(never_writing_special_tokens(loaded), beam_size)
    results = ctranslate2.Translator(str(tmp_path / "theirs"), intra_threads=1).translate_batch(
        [[source.foreign_names[index] for index in ids] for ids in loaded.source_tokenizer.encode_batch(LINES)],
        target_prefix=[first] * len(LINES) if first else None,
        beam_size=beam_size,
        max_decoding_length=MAX_LENGTH + 1,
        min_decoding_length=0,
    )
    lines = ended(expected) if beam_size > 1 else range(len(LINES))  # what is cut off is the same in greedy
    assert len(lines) >= 4
    for index in lines:
        ids = expected[index].hypotheses[0].token_ids
        assert results[index].hypotheses[0][: len(ids)] == [target.foreign_names[token] for token in ids]


def with_defaults(theirs: Path, **defaults: object) -> None:
    path = theirs / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **defaults}))


@pytest.mark.parametrize("name", ["marian", "bart"])
@pytest.mark.parametrize(("min_length", "max_length"), [(2, 5), (6, 7), (0, 3)])
def test_limits_of_length_are_the_same(name: str, min_length: int, max_length: int, tmp_path: Path) -> None:
    model = MAKERS[name](tmp_path / "theirs")
    with_defaults(tmp_path / "theirs", num_beams=1, min_length=min_length, max_length=max_length)
    assert import_folder(tmp_path / "theirs", tmp_path / "ours", Direction()) == ()
    loaded = load_model(tmp_path / "ours")
    search = model_search(loaded.generation)
    assert (search.min_length, search.max_length) == (max(0, min_length - 1), max_length - 2)
    order = order_of(tmp_path)
    tokens = loaded.target_tokenizer
    never = {tokens.pad_id, tokens.bos_id, tokens.mask_id, *tokens.tags.values()} - {tokens.eos_id, *tokens.first_ids}
    batch = transformers.AutoTokenizer.from_pretrained(tmp_path / "theirs")(LINES, return_tensors="pt", padding=True)
    rows = model.generate(
        **batch,
        num_beams=1,
        min_length=min_length,
        max_length=max_length,
        forced_bos_token_id=order[tokens.first_ids[0]] if tokens.first_ids else None,
        suppress_tokens=[order[index] for index in never if order[index] >= 0],
    )
    translator = Translator(loaded.model, loaded.source_tokenizer, tokens, search, BatchConfig())
    for found, row in zip(translator.translate(LINES), rows.tolist(), strict=True):
        ours = [order[token] for token in found.hypotheses[0].token_ids]
        assert row[1 : len(ours) + 1] == ours
        assert len(ours) == max_length - 2 or row[len(ours) + 1] == model.config.eos_token_id


def test_decoding_defaults_are_taken_over_or_named(marian: Path, tmp_path: Path) -> None:
    shutil.copytree(marian, tmp_path / "theirs")
    values: dict[str, Any] = {
        "num_beams": 3,
        "length_penalty": 2,
        "early_stopping": True,
        "no_repeat_ngram_size": 4,
        "repetition_penalty": 1.5,
        "max_length": 40,
    }
    with_defaults(tmp_path / "theirs", **values, do_sample=False, suppress_tokens=None)
    assert import_folder(tmp_path / "theirs", tmp_path / "ours", Direction()) == ()
    generation = load_model(tmp_path / "ours").generation
    assert generation.pop("max_source_length") == 63
    assert generation == {
        "beam_size": 3,
        "length_penalty": 2.0,
        "early_stopping": True,
        "no_repeat_ngram": 4,
        "repetition_penalty": 1.5,
        "max_length": 38,
    }
    export_hugging_face(load_model(tmp_path / "ours"), tmp_path / "again", model_search(generation))
    again = json.loads((tmp_path / "again" / "generation_config.json").read_text())
    assert again["max_length"] == 40
    odd: dict[str, Any] = {"num_beams": 0, "length_penalty": -1.0, "early_stopping": "never", "repetition_penalty": 0.5}
    others: dict[str, Any] = {"do_sample": True, "bad_words_ids": [[5, 6]], "max_length": "long", "min_length": 10**9}
    with_defaults(tmp_path / "theirs", **odd, **others, no_repeat_ngram_size=0)
    left_out = import_folder(tmp_path / "theirs", tmp_path / "other", Direction())
    assert left_out == (
        *("num_beams", "length_penalty", "max_length", "min_length", "repetition_penalty", "do_sample"),
        "bad_words_ids",
    )
    assert load_model(tmp_path / "other").generation == {"max_source_length": 63}


def test_a_pickle_of_tensors_is_read(tmp_path: Path) -> None:
    model = save_marian(tmp_path / "theirs")
    (tmp_path / "theirs" / "model.safetensors").unlink()
    torch.save(model.state_dict(), tmp_path / "theirs" / "pytorch_model.bin")
    import_folder(tmp_path / "theirs", tmp_path / "ours", Direction())
    assert load_model(tmp_path / "ours").model.config.activation == "silu"


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("evil"),)


def damaged(folder: Path, name: str) -> None:  # noqa: C901 - a table
    """Spoil one thing of a folder."""
    config = json.loads((folder / "config.json").read_text())
    match name:
        case "decoder only":
            config["model_type"] = "gpt2"
        case "unknown activation":
            config["activation_function"] = "mish"
        case "no layers":
            del config["encoder_layers"]
        case "more layers":
            config["encoder_layers"] = 3
        case "fewer layers":
            config["decoder_layers"] = 1
        case "no decoder":
            config["decoder_layers"] = 0
        case "another width":
            config["d_model"] = 64
        case "absurd":
            config["decoder_layers"] = 10**9
        case "another start":
            config["decoder_start_token_id"] = 7
        case "truncated":
            content = (folder / "model.safetensors").read_bytes()
            (folder / "model.safetensors").write_bytes(content[: len(content) // 2])
        case "no weights":
            (folder / "model.safetensors").unlink()
        case "evil pickle":
            (folder / "model.safetensors").unlink()
            torch.save({"model.shared.weight": Evil()}, folder / "pytorch_model.bin")
        case "no vocabulary":
            (folder / "vocab.json").unlink()
        case "damaged vocabulary":
            (folder / "vocab.json").write_text('{"a": 1')
        case "too large a vocabulary":
            (folder / "vocab.json").write_text(json.dumps({"</s>": 0, "<unk>": 1, "<pad>": 100000}))
        case "damaged pieces":
            (folder / "source.spm").write_bytes(b"no model")
        case "no config":
            (folder / "config.json").unlink()
            return
    (folder / "config.json").write_text(json.dumps(config))


@pytest.fixture(scope="module")
def marian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("marian") / "theirs"
    save_marian(folder)
    return folder


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("decoder only", "is a model of type 'gpt2'; those that can be imported are marian"),
        ("unknown activation", "its activation_function is 'mish', which cannot be imported"),
        ("no layers", "has no encoder_layers"),
        ("more layers", "lacks the tensor model.encoder.layers.2"),
        ("fewer layers", r"holds model\.decoder\.layers\.1\..*, which its config.json has no layer for"),
        ("no decoder", "its decoder has no layers; only models with an encoder and a decoder"),
        ("another width", "has shape"),
        ("absurd", "must be between"),
        ("another start", "its decoder starts with 7"),
        ("truncated", "is damaged"),
        ("no weights", "has neither model.safetensors nor pytorch_model.bin"),
        ("evil pickle", "holds something else than tensors"),
        ("no vocabulary", "vocab.json: cannot be read"),
        ("damaged vocabulary", "vocab.json: is not JSON"),
        ("too large a vocabulary", "the vocabulary has 100001 entries"),
        ("damaged pieces", "source.spm: the SentencePiece model"),
        ("no config", "has no config.json"),
    ],
)
def test_what_cannot_be_imported_is_refused_in_a_line(marian: Path, tmp_path: Path, name: str, reason: str) -> None:
    shutil.copytree(marian, tmp_path / "theirs")
    damaged(tmp_path / "theirs", name)
    with pytest.raises(ModelError, match=reason) as caught:
        import_folder(tmp_path / "theirs", tmp_path / "ours", Direction())
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ours").exists()
    assert not Path("evil").exists()


def test_languages_have_to_be_named(tmp_path: Path) -> None:
    save_m2m100(tmp_path / "theirs")
    with pytest.raises(ConfigError, match="name two with --source-language and --target-language"):
        import_folder(tmp_path / "theirs", tmp_path / "ours", Direction())
    with pytest.raises(ConfigError, match=r"--target-language xx: .* has no such language"):
        import_folder(tmp_path / "theirs", tmp_path / "ours", Direction(source="en", target="xx"))


def test_a_marian_is_told_what_to_write(marian: Path, tmp_path: Path) -> None:
    import_folder(marian, tmp_path / "ours", Direction(target="de"))
    loaded = load_model(tmp_path / "ours")
    assert loaded.source_tokenizer.first_ids == [loaded.source_tokenizer.tags["de"]]
    assert loaded.target_tokenizer.first_ids == []
    auto = transformers.AutoTokenizer.from_pretrained(marian)
    config = json.loads((marian / "config.json").read_text())
    order = read_vocabularies(marian, config, config["vocab_size"]).order
    ids = [order[index] for index in loaded.source_tokenizer.encode(LINES[0])]
    assert ids == auto(f">>de<< {LINES[0]}")["input_ids"][:-1]
    with pytest.raises(ConfigError, match=r"--source-language: .* has languages to write alone"):
        import_folder(marian, tmp_path / "other", Direction(source="de", target="de"))


def test_a_marian_that_is_exported_is_told_what_to_write_by_hand(marian: Path, tmp_path: Path) -> None:
    import_folder(marian, tmp_path / "ours", Direction())
    loaded = load_model(tmp_path / "ours")
    assert export_hugging_face(loaded, tmp_path / "all", SearchConfig()) is None
    tagged = loaded.tagged("de")
    assert export_hugging_face(tagged, tmp_path / "one", SearchConfig()) == ">>de<<"
    auto = transformers.AutoTokenizer.from_pretrained(tmp_path / "one")
    ids = [*tagged.source_tokenizer.encode(LINES[0]), tagged.source_tokenizer.eos_id]
    assert auto(f">>de<< {LINES[0]}")["input_ids"] == ids
    import_folder(marian, tmp_path / "german", Direction(target="de"))
    assert export_hugging_face(load_model(tmp_path / "german"), tmp_path / "two", SearchConfig()) == ">>de<<"
    source = loaded.source_tokenizer.with_tags(["fr"]).tagged("fr")
    target = loaded.target_tokenizer.with_tags(["fr"])
    with pytest.raises(
        ModelError, match="lines of this model begin with <2fr>, which MarianTokenizer would cut like any text"
    ):
        write_tokenizers(tmp_path, "marian", source, target, 64)
    assert not (tmp_path / "vocab.json").exists()


def test_the_languages_of_m2m100_are_those_of_transformers() -> None:
    from transformers.models.m2m_100.tokenization_m2m_100 import FAIRSEQ_LANGUAGE_CODES

    assert M2M100_LANGUAGES.split() == FAIRSEQ_LANGUAGE_CODES["m2m100"]


def test_a_folder_that_is_taken_stays_as_it_is(marian: Path, tmp_path: Path) -> None:
    (tmp_path / "ours").mkdir()
    (tmp_path / "ours" / "mine").touch()
    with pytest.raises(ConfigError, match="is there already"):
        import_folder(marian, tmp_path / "ours", Direction())
    assert [path.name for path in (tmp_path / "ours").iterdir()] == ["mine"]
