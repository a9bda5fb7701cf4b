import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tokenizers
import torch

from tests.transformer_core.conversion.models import (
    LINES,
    MAX_LENGTH,
    STACK,
    ended,
    never_writing_special_tokens,
    save_model,
    search,
    tokenizer,
    untrained,
)
from tests.transformer_core.conversion.test_export_hugging_face import SHAPES as HUGGING_FACE_SHAPES
from tests.transformer_core.small_config import small_stack
from tokenizer import TrainedKind
from transformer_core.config import StackConfig
from transformer_core.conversion.export_ctranslate2 import NEVER, export_ctranslate2
from transformer_core.conversion.quantization import Quantization
from transformer_core.errors import ConfigError, ModelError
from transformer_core.model_directory import LoadedModel

ctranslate2 = pytest.importorskip("ctranslate2")

WIDE = StackConfig(num_layers=1, d_model=48, num_heads=4, d_ff=32)
SHAPES: dict[str, dict[str, object]] = {
    **HUGGING_FACE_SHAPES,
    "learned": {"positions": "learned", "max_positions": 64},
    "no positions": {"positions": "none"},
    "rotary": {"positions": "rotary"},
    "swiglu": {"feed_forward": "swiglu"},
    "glu": {"feed_forward": "glu", "norm_first": False},
    "two widths": {"encoder": WIDE, "tie_embeddings": "decoder"},
    "modern": {"positions": "rotary", "norm_kind": "rms", "feed_forward": "swiglu", "output_bias": True},
}


@pytest.fixture(scope="module")
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[LoadedModel, Path]:
    folder = tmp_path_factory.mktemp("export")
    loaded = save_model(folder / "model", tokenizer(), values=SHAPES[request.param])
    export_ctranslate2(loaded, folder / "exported")
    return loaded, folder / "exported"


def pieces(loaded: LoadedModel) -> list[list[str]]:
    names = loaded.source_tokenizer.raw_pieces
    return [[names[index] for index in ids] for ids in loaded.source_tokenizer.encode_batch(LINES)]


def translator_of(folder: Path) -> Any:  # noqa: ANN401 - the library has no types
    return ctranslate2.Translator(str(folder), device="cpu", compute_type="float32", intra_threads=1)


@pytest.mark.parametrize("beam_size", [1, 4])
@pytest.mark.parametrize("model", SHAPES, indirect=True)
def test_ctranslate2_writes_what_translate_writes(model: tuple[LoadedModel, Path], beam_size: int) -> None:
    loaded, folder = model
    expected = search(never_writing_special_tokens(loaded), beam_size)
    results = translator_of(folder).translate_batch(
        pieces(loaded),
        beam_size=beam_size,
        max_decoding_length=MAX_LENGTH + 1,
        min_decoding_length=0,
        return_scores=True,
    )
    names = loaded.target_tokenizer.raw_pieces
    lines = ended(expected)
    assert len(lines) >= 4
    for index in lines:
        hypothesis = expected[index].hypotheses[0]
        assert results[index].hypotheses[0] == [names[token] for token in hypothesis.token_ids]
        assert results[index].scores[0] == pytest.approx(hypothesis.score, abs=1e-3)


@pytest.mark.parametrize("kind", ["byte-bpe", "unigram", "wordpiece", "word", "char"])
def test_the_vocabulary_is_that_of_the_tokenizer_beside_it(kind: TrainedKind, tmp_path: Path) -> None:
    loaded = save_model(tmp_path / "model", tokenizer(kind))
    export_ctranslate2(loaded, tmp_path / "exported")
    (name,) = {path.name for path in (tmp_path / "exported").glob("*tokenizer.json")}
    library = tokenizers.Tokenizer.from_file(str(tmp_path / "exported" / name))
    assert [library.encode(line).ids for line in LINES] == loaded.source_tokenizer.encode_batch(LINES)
    expected = json.loads((tmp_path / "exported" / "shared_vocabulary.json").read_text(encoding="utf-8"))
    assert expected == loaded.target_tokenizer.raw_pieces
    results = translator_of(tmp_path / "exported").translate_batch(pieces(loaded)[:4], beam_size=1)
    assert all(set(result.hypotheses[0]) <= set(expected) for result in results)


def test_two_vocabularies_stay_two(tmp_path: Path) -> None:
    source, target = tokenizer(), tokenizer("word")
    loaded = save_model(tmp_path / "model", source, target, values={"norm_first": False, "tie_embeddings": "decoder"})
    export_ctranslate2(loaded, tmp_path / "exported")
    expected = search(never_writing_special_tokens(loaded), 1)
    results = translator_of(tmp_path / "exported").translate_batch(
        pieces(loaded), beam_size=1, max_decoding_length=MAX_LENGTH + 1, min_decoding_length=0
    )
    for index in ended(expected):
        ids = expected[index].hypotheses[0].token_ids
        assert results[index].hypotheses[0] == [target.raw_pieces[token] for token in ids]


def test_special_tokens_are_never_written(tmp_path: Path) -> None:
    loaded = save_model(tmp_path / "model", tokenizer(), values={"output_bias": True})
    special = [loaded.target_tokenizer.pad_id, loaded.target_tokenizer.bos_id, loaded.target_tokenizer.mask_id]
    with torch.no_grad():
        loaded.model.output_projection.bias[special] = 60
    export_ctranslate2(loaded, tmp_path / "exported")
    for beam_size in (1, 4):
        for result in translator_of(tmp_path / "exported").translate_batch(pieces(loaded)[:8], beam_size=beam_size):
            assert not {"<pad>", "<bos>", "<mask>"}.intersection(result.hypotheses[0])
    assert torch.tensor(NEVER, dtype=torch.float16).isfinite()


@pytest.mark.parametrize("quantization", ["int8", "int16", "int8_bfloat16", "bfloat16"])
def test_ctranslate2_loads_what_is_quantized(quantization: Quantization, tmp_path: Path) -> None:
    loaded = save_model(tmp_path / "model", tokenizer())
    export_ctranslate2(loaded, tmp_path / "exported", quantization)
    translator = ctranslate2.Translator(str(tmp_path / "exported"), device="cpu", intra_threads=1)
    assert all(result.hypotheses[0] for result in translator.translate_batch(pieces(loaded)[:4], beam_size=1))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"encoder": replace(STACK, mixer="gru")}, "--encoder-mixer gru cannot be exported there: CTranslate2 has"),
        ({"decoder": replace(STACK, mixer="ssru")}, "--decoder-mixer ssru cannot be exported"),
        ({"query_key_norm": True}, "--query-key-norm cannot be exported"),
        ({"decoder": small_stack(num_layers=0, d_model=32, num_heads=4)}, "encoder without a decoder"),
    ],
    ids=["gru", "ssru", "query-key-norm", "encoder only"],
)
def test_what_it_cannot_compute_is_refused(values: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=message):
        export_ctranslate2(untrained(values), tmp_path / "exported")
    assert list(tmp_path.iterdir()) == []


def test_numbers_beyond_those_of_float16_are_refused(tmp_path: Path) -> None:
    loaded = untrained({})
    with torch.no_grad():
        loaded.model.get_parameter("encoder.final_norm.weight")[0] = 70_000
    for quantization in ("float16", "int8_float16"):
        with pytest.raises(ModelError, match=rf"norm/gamma holds numbers beyond 65,504, the largest of {quantization}"):
            export_ctranslate2(loaded, tmp_path / "exported", quantization)
    assert list(tmp_path.iterdir()) == []
    export_ctranslate2(loaded, tmp_path / "exported", "int8_bfloat16")


def test_a_folder_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = untrained({})
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    with pytest.raises(ConfigError, match="taken: is there already"):
        export_ctranslate2(loaded, tmp_path / "taken")

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("transformer_core.conversion.export_ctranslate2.save_tokenizers", fail)
    with pytest.raises(OSError, match="No space"):
        export_ctranslate2(loaded, tmp_path / "exported")
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
