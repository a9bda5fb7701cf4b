import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.transformer_core.conversion.models import (
    LINES,
    MAX_LENGTH,
    STACK,
    ended,
    save_model,
    search,
    tokenizer,
    translate,
    untrained,
)
from tokenizer import KINDS, Tokenizer, TrainedKind
from transformer_core.config import StackConfig
from transformer_core.conversion.export_hugging_face import export_hugging_face
from transformer_core.conversion.hugging_face_tokenizer import TARGET_FOLDER, write_tokenizers
from transformer_core.data.padding import pad
from transformer_core.decoding.config import SearchConfig
from transformer_core.errors import ModelError
from transformer_core.model_directory import LoadedModel

transformers = pytest.importorskip("transformers")
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

SHAPES: dict[str, dict[str, object]] = {
    "pegasus": {"norm_first": True},
    "marian": {"norm_first": False},
    "m2m_100": {"norm_first": True, "sinusoid_form": "fairseq"},
    "interleaved": {"norm_first": True, "sinusoid_form": "vaswani"},
    "grouped": {"encoder": StackConfig(num_layers=1, d_model=32, num_heads=4, d_ff=48, num_key_value_heads=2)},
    "unscaled": {"scale_attention": False},
    "gelu": {"norm_first": False, "activation": "gelu"},
    "silu": {"activation": "silu"},
    "own tables": {"norm_first": False, "tie_embeddings": "decoder"},
    "no ties": {"norm_first": False, "tie_embeddings": "none"},
    "one layer": {"decoder": StackConfig(num_layers=1, d_model=32, num_heads=2, d_ff=40)},
    "bias": {"norm_first": False, "output_bias": True},
    "no scale": {"scale_embedding": False},
    "bart": {"norm_first": False, "norm_embedding": True, "positions": "learned", "max_positions": 64},
    "mbart": {"norm_first": True, "norm_embedding": True, "positions": "learned", "max_positions": 64},
}


@pytest.fixture(scope="module")
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[LoadedModel, Path]:
    folder = tmp_path_factory.mktemp("export")
    loaded = save_model(folder / "model", tokenizer(), values=SHAPES[request.param])
    export_hugging_face(loaded, folder / "exported", SearchConfig(max_length=MAX_LENGTH, early_stopping=True))
    return loaded, folder / "exported"


def theirs(folder: Path, tokens: Tokenizer | None = None) -> tuple[object, object]:
    model = transformers.AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    return model, transformers.AutoTokenizer.from_pretrained(folder)


@pytest.mark.parametrize("exported", SHAPES, indirect=True)
def test_logits_are_the_same(exported: tuple[LoadedModel, Path]) -> None:
    loaded, folder = exported
    model, auto = theirs(folder)
    tokens = loaded.source_tokenizer
    source, mask = pad(
        [[*ids, tokens.eos_id] for ids in tokens.encode_batch(LINES)], tokens.pad_id, torch.device("cpu")
    )
    target, _ = pad(
        [[tokens.bos_id, *ids] for ids in tokens.encode_batch(LINES[::-1])], tokens.pad_id, torch.device("cpu")
    )
    swap = json.loads((folder / "config.json").read_text())["model_type"] == "m2m_100"
    order = torch.arange(tokens.vocabulary_size)
    if swap:
        order[:2] = torch.tensor([1, 0])
    with torch.inference_mode():
        ours = loaded.model.project(loaded.model(source, mask, target))
        batch = auto(LINES, return_tensors="pt", padding=True)  # type: ignore[operator]
        assert torch.equal(batch["input_ids"], order[source])
        found = model(**batch, decoder_input_ids=order[target]).logits[..., order]  # type: ignore[operator]
    real = target != tokens.pad_id
    torch.testing.assert_close(found[real], ours[real], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("beam_size", [1, 4])
@pytest.mark.parametrize("exported", ["pegasus", "marian", "m2m_100", "bart"], indirect=True)
def test_generate_writes_what_translate_writes(exported: tuple[LoadedModel, Path], beam_size: int) -> None:
    loaded, folder = exported
    model, auto = theirs(folder)
    expected = search(loaded, beam_size)
    lines = ended(expected)
    assert len(lines) >= 4
    batch = auto([LINES[index] for index in lines], return_tensors="pt", padding=True)  # type: ignore[operator]
    found = model.generate(**batch, num_beams=beam_size)  # type: ignore[attr-defined]
    texts = auto.batch_decode(found, skip_special_tokens=True)  # type: ignore[attr-defined]
    assert texts == [expected[index].text for index in lines]


def test_generate_keeps_the_rules_of_the_search(tmp_path: Path) -> None:
    rules: dict[str, Any] = {"min_length": 9, "repetition_penalty": 1.5, "no_repeat_ngram": 2, "ban_unk": True}
    loaded = save_model(tmp_path / "model", tokenizer())
    config = SearchConfig(beam_size=3, max_length=MAX_LENGTH, early_stopping=True)
    export_hugging_face(loaded, tmp_path / "exported", replace(config, **rules))
    model, auto = theirs(tmp_path / "exported")
    assert loaded.target_tokenizer.unk_id in model.generation_config.suppress_tokens  # type: ignore[attr-defined]
    wide: dict[str, Any] = {"beam_size": 3, "n_best": 3, "early_stopping": True}
    expected, free = translate(loaded, **wide, **rules), translate(loaded, **wide)
    lines = ended(expected)
    assert len(lines) >= 2
    batch = auto([LINES[index] for index in lines], return_tensors="pt", padding=True)  # type: ignore[operator]
    texts = auto.batch_decode(model.generate(**batch), skip_special_tokens=True)  # type: ignore[attr-defined]
    assert texts == [expected[index].text for index in lines]
    assert texts != [free[index].text for index in lines]


def test_sampling_is_handed_on(tmp_path: Path) -> None:
    loaded = save_model(tmp_path / "model", tokenizer())
    drawn = SearchConfig(beam_size=1, sample=True, temperature=0.5, top_k=7, top_p=0.9)
    export_hugging_face(loaded, tmp_path / "exported", drawn)
    written = json.loads((tmp_path / "exported" / "generation_config.json").read_text())
    expected = {"do_sample": True, "num_beams": 1, "temperature": 0.5, "top_k": 7, "top_p": 0.9}
    assert expected.items() <= written.items()


@pytest.mark.parametrize("kind", KINDS)
def test_the_tokenizer_cuts_and_joins_as_ours_does(kind: TrainedKind, tmp_path: Path) -> None:
    ours = tokenizer(kind).with_tags(["de"]).tagged("de")
    write_tokenizers(tmp_path, "pegasus", ours, ours, 64)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    lines = [*LINES, "<bos> <mask> <unk></s>", "x <pad>y", "<eos>", "<2de> ba", "  two  spaces ", "ba , be ."]
    assert theirs(lines)["input_ids"] == [[*ids, ours.eos_id] for ids in ours.encode_batch(lines)]
    ids = [*ours.encode_batch(lines), [0, 1, 7, 8, 2]]
    assert theirs.batch_decode(ids, skip_special_tokens=True) == ours.decode_batch(ids)
    assert (theirs.pad_token_id, theirs.bos_token_id, theirs.eos_token_id) == (ours.pad_id, ours.bos_id, ours.eos_id)


def test_two_vocabularies_are_a_marian_with_two_tokenizers(tmp_path: Path) -> None:
    source, target = tokenizer(), tokenizer("word")
    values = {"norm_first": False, "tie_embeddings": "decoder"}
    loaded = save_model(tmp_path / "model", source, target, values=values)
    export_hugging_face(loaded, tmp_path / "exported", SearchConfig(max_length=MAX_LENGTH, early_stopping=True))
    model, auto = theirs(tmp_path / "exported")
    writer = transformers.AutoTokenizer.from_pretrained(tmp_path / "exported" / TARGET_FOLDER)
    expected = search(loaded, 1)
    lines = ended(expected)
    batch = auto([LINES[index] for index in lines], return_tensors="pt", padding=True)  # type: ignore[operator]
    found = model.generate(**batch, num_beams=1)  # type: ignore[attr-defined]
    assert writer.batch_decode(found, skip_special_tokens=True) == [expected[index].text for index in lines]


@pytest.mark.parametrize(
    ("values", "option"),
    [
        ({"encoder": replace(STACK, mixer="gru")}, "--encoder-mixer gru"),
        ({"decoder": replace(STACK, mixer="ssru")}, "--decoder-mixer ssru"),
        ({"positions": "rotary"}, "--positions rotary"),
        ({"positions": "learned"}, "--positions learned"),
        ({"positions": "none"}, "--positions none"),
        ({"norm_kind": "rms", "output_bias": True}, "--norm-kind rms"),
        ({"feed_forward": "swiglu"}, "--feed-forward swiglu"),
        ({"query_key_norm": True}, "--query-key-norm"),
        ({"tie_embeddings": "none"}, "--tie-embeddings none"),
        ({"norm_first": False, "sinusoid_form": "fairseq"}, "--sinusoid-form fairseq and --norm last"),
        ({"encoder": replace(STACK, d_model=48), "tie_embeddings": "decoder"}, "--enc-d-model and --dec-d-model"),
    ],
    ids=str,
)
def test_what_transformers_cannot_compute_is_refused(values: dict[str, object], option: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=f"a model with {option}.* cannot be exported there: ") as caught:
        export_hugging_face(untrained(values), tmp_path / "exported", SearchConfig())
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "exported").exists()


def test_a_length_penalty_that_it_does_not_have_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="--length-penalty-type gnmt"):
        export_hugging_face(untrained({}), tmp_path / "exported", SearchConfig(length_penalty_type="gnmt"))
