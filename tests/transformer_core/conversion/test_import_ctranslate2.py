import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.transformer_core.conversion.models import (
    LINES,
    MAX_LENGTH,
    ended,
    never_writing_special_tokens,
    save_model,
    search,
    tokenizer,
    untrained,
)
from tokenizer import Tokenizer
from transformer_core.config import StackConfig
from transformer_core.conversion.ctranslate2_file import read_arrays, write_arrays
from transformer_core.conversion.export_ctranslate2 import export_ctranslate2
from transformer_core.conversion.foreign_vocabulary import Direction
from transformer_core.conversion.import_folder import import_folder
from transformer_core.conversion.quantization import Quantization
from transformer_core.data.padding import pad
from transformer_core.errors import ModelError
from transformer_core.model_directory import LoadedModel, load_model
from transformer_core.model_files import write_json

SHAPES: dict[str, dict[str, object]] = {
    "default": {},
    "norm last": {"norm_first": False, "activation": "gelu", "tie_embeddings": "decoder", "scale_embedding": False},
    "learned": {"positions": "learned", "max_positions": 64, "norm_embedding": True, "tie_embeddings": "none"},
    "modern": {"positions": "rotary", "norm_kind": "rms", "feed_forward": "swiglu", "output_bias": True},
    "fairseq": {"sinusoid_form": "fairseq"},
    "two shapes": {"decoder": StackConfig(num_layers=1, d_model=32, num_heads=2, d_ff=40), "positions": "none"},
}


def logits(loaded: LoadedModel) -> torch.Tensor:
    tokens: Tokenizer = loaded.source_tokenizer
    rows = tokens.encode_batch(LINES[:8])
    source, mask = pad([[*ids, tokens.eos_id] for ids in rows], tokens.pad_id, torch.device("cpu"))
    target, _ = pad([[tokens.bos_id, *ids] for ids in rows], tokens.pad_id, torch.device("cpu"))
    with torch.inference_mode():
        found: torch.Tensor = loaded.model.project(loaded.model(source, mask, target))
    return found[..., 5:]  # special tokens aside, which are never written there


@pytest.mark.parametrize("shape", SHAPES)
def test_what_was_exported_comes_back(shape: str, tmp_path: Path) -> None:
    loaded = save_model(tmp_path / "model", tokenizer(), values=SHAPES[shape])
    export_ctranslate2(loaded, tmp_path / "theirs")
    import_folder(tmp_path / "theirs", tmp_path / "ours", Direction())
    again = load_model(tmp_path / "ours")
    if shape == "default":
        assert again.model.config == loaded.model.config
    torch.testing.assert_close(logits(again), logits(loaded), rtol=1e-5, atol=1e-5)


def test_decoding_defaults_come_back(tmp_path: Path) -> None:
    generation = {"tag": "de", "tags": ["de", "fr"], "max_length_ratio": 1.5, "max_source_length": 40, "beam_size": 3}
    loaded = replace(untrained({}), generation={**generation, "shortlist": True})  # which is not exported
    export_ctranslate2(loaded, tmp_path / "theirs")
    import_folder(tmp_path / "theirs", tmp_path / "ours", Direction())
    assert load_model(tmp_path / "ours").generation == generation
    write_json(tmp_path / "theirs" / "generation.json", {"beam_size": 0})
    with pytest.raises(ModelError, match=r"theirs/generation\.json: beam_size \(0\) must be between"):
        import_folder(tmp_path / "theirs", tmp_path / "other", Direction())
    write_json(tmp_path / "theirs" / "generation.json", {"max_source_length": "all"})
    with pytest.raises(ModelError, match=r"generation\.json: max_source_length is 'all', not a number of tokens"):
        import_folder(tmp_path / "theirs", tmp_path / "other", Direction())
    (tmp_path / "theirs" / "generation.json").unlink()  # of an earlier version, which did not write it
    import_folder(tmp_path / "theirs", tmp_path / "other", Direction())
    assert load_model(tmp_path / "other").generation == {}


def test_arrays_that_are_stored_once_become_weights_of_their_own(tmp_path: Path) -> None:
    loaded = untrained({"tie_embeddings": "none"})
    with torch.no_grad():
        for name, weight in loaded.model.named_parameters():
            if name.endswith("bias"):
                weight.zero_()
        loaded.model.output_projection.weight.copy_(loaded.model.source_embedding.token_embedding.weight)
    export_ctranslate2(loaded, tmp_path / "theirs")
    import_folder(tmp_path / "theirs", tmp_path / "ours", Direction())
    torch.testing.assert_close(logits(load_model(tmp_path / "ours")), logits(loaded), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("quantization", ["int8", "int8_float16", "int8_bfloat16", "int16", "float16", "bfloat16"])
def test_quantized_weights_become_floats_again(quantization: Quantization, tmp_path: Path) -> None:
    loaded = save_model(tmp_path / "model", tokenizer())
    export_ctranslate2(loaded, tmp_path / "theirs", quantization)
    import_folder(tmp_path / "theirs", tmp_path / "ours", Direction())
    difference = (logits(load_model(tmp_path / "ours")) - logits(loaded)).abs().mean()
    assert difference < (0.3 if quantization.startswith("int8") else 0.1)


@pytest.mark.parametrize("beam_size", [1, 4])
def test_ctranslate2_agrees_on_what_int8_makes_of_it(beam_size: int, tmp_path: Path) -> None:
    ctranslate2 = pytest.importorskip("ctranslate2")
    loaded = save_model(tmp_path / "model", tokenizer())
    export_ctranslate2(loaded, tmp_path / "theirs", "int8")
    assert (tmp_path / "theirs" / "model.bin").stat().st_size < 600_000
    import_folder(tmp_path / "theirs", tmp_path / "ours", Direction())
    names = loaded.source_tokenizer.raw_pieces
    lines = [[names[index] for index in ids] for ids in loaded.source_tokenizer.encode_batch(LINES)]
    translator = ctranslate2.Translator(str(tmp_path / "theirs"), compute_type="float32", intra_threads=1)
    results = translator.translate_batch(
        lines, beam_size=beam_size, max_decoding_length=MAX_LENGTH + 1, min_decoding_length=0
    )
    # special tokens have no probability there, and hardly any in a trained model, but in this one
    expected = search(never_writing_special_tokens(load_model(tmp_path / "ours")), beam_size)
    assert len(ended(expected)) >= 4
    for index in ended(expected):
        assert results[index].hypotheses[0] == [names[token] for token in expected[index].hypotheses[0].token_ids]


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("decoder/layer_0/self_attention/rotary_base", torch.tensor(500_000.0), "turned in another way than ours"),
        (
            "encoder/layer_0/self_attention/rotary_dim",
            torch.tensor(4, dtype=torch.int32),
            "turned in another way than ours",
        ),
        ("encoder/layer_0/self_attention/rotary_dim", None, "rotary on one side alone"),
    ],
)
def test_other_rotary_positions_are_refused(name: str, value: torch.Tensor | None, reason: str, tmp_path: Path) -> None:
    export_ctranslate2(save_model(tmp_path / "model", tokenizer(), values=SHAPES["modern"]), tmp_path / "theirs")
    path = tmp_path / "theirs" / "model.bin"
    arrays = dict(read_arrays(path))
    if value is None:
        del arrays[name]
    else:
        arrays[name] = value
    write_arrays(path, arrays)
    with pytest.raises(ModelError, match=reason):
        import_folder(tmp_path / "theirs", tmp_path / "ours", Direction())


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("exported")
    export_ctranslate2(save_model(folder / "model", tokenizer()), folder / "theirs")
    return folder / "theirs"


def spoil(folder: Path, name: str) -> None:
    """Damage one thing of a folder."""
    model = folder / "model.bin"
    content = model.read_bytes()
    match name:
        case "truncated":
            model.write_bytes(content[: len(content) // 2])
        case "empty":
            model.write_bytes(b"")
        case "another version":
            model.write_bytes(b"\xff" * 4 + content[4:])
        case "another specification":
            model.write_bytes(content.replace(b"TransformerSpec\0", b"TransformerSpec".replace(b"T", b"W") + b"\0", 1))
        case "many arrays":
            model.write_bytes(content[:26] + b"\xff" * 4 + content[30:])
        case "another name":
            model.write_bytes(content.replace(b"layer_1/ffn/linear_0/bias", b"layer_1/ffn/linear_0/bios"))
        case "no tokenizer":
            (folder / "tokenizer.json").unlink()
        case "another vocabulary":
            path = folder / "shared_vocabulary.json"
            path.write_text(json.dumps(json.loads(path.read_text())[::-1]))
        case "no vocabulary":
            (folder / "shared_vocabulary.json").unlink()


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("truncated", "ends before its end"),
        ("empty", "ends before its end"),
        ("another version", "is no model.bin of CTranslate2, or one of format"),
        ("another specification", "holds a WransformerSpec; only encoder-decoder models"),
        ("many arrays", "says that it holds"),
        ("another name", "lacks the array encoder/layer_1/ffn/linear_0/bias"),
        ("no tokenizer", "has neither a tokenizer.json of ours nor source.spm"),
        ("another vocabulary", "its source vocabulary is not that of its tokenizer"),
        ("no vocabulary", "has no source_vocabulary.json and no shared_vocabulary.json"),
    ],
)
def test_what_cannot_be_imported_is_refused_in_a_line(exported: Path, tmp_path: Path, name: str, reason: str) -> None:
    shutil.copytree(exported, tmp_path / "theirs")
    spoil(tmp_path / "theirs", name)
    with pytest.raises(ModelError, match=reason) as caught:
        import_folder(tmp_path / "theirs", tmp_path / "ours", Direction())
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ours").exists()


def test_any_cut_of_the_file_is_refused(exported: Path, tmp_path: Path) -> None:
    shutil.copytree(exported, tmp_path / "theirs")
    content = (exported / "model.bin").read_bytes()
    for length in range(0, len(content), len(content) // 50):
        (tmp_path / "theirs" / "model.bin").write_bytes(content[:length])
        with pytest.raises(ModelError):
            import_folder(tmp_path / "theirs", tmp_path / "ours", Direction())


@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("kind", ["marian", "nllb"])
def test_what_others_have_converted_writes_what_it_writes_there(kind: str, tmp_path: Path) -> None:
    ctranslate2 = pytest.importorskip("ctranslate2")
    pytest.importorskip("transformers")
    from tests.transformer_core.conversion.foreign_models import save_marian, save_nllb

    if kind == "marian":
        save_marian(tmp_path / "theirs", pad_is_zero=True)  # as published ones, and as the converter takes for granted
        files, direction = ["source.spm", "target.spm"], Direction()
    else:
        save_nllb(tmp_path / "theirs")
        files, direction = ["sentencepiece.bpe.model"], Direction(source="eng_Latn", target="deu_Latn")
    converter = ctranslate2.converters.TransformersConverter(str(tmp_path / "theirs"), copy_files=files)
    converter.convert(str(tmp_path / "converted"))
    import_folder(tmp_path / "converted", tmp_path / "ours", direction)
    ours = load_model(tmp_path / "ours")
    source, target = ours.source_tokenizer.imported, ours.target_tokenizer.imported
    assert source is not None
    assert target is not None
    first = [target.foreign_names[index] for index in ours.target_tokenizer.first_ids]
    known = json.loads((tmp_path / "converted" / "shared_vocabulary.json").read_text())
    never = [target.foreign_names[index] for index in ours.target_tokenizer.unwritten_ids]
    given = json.loads((tmp_path / "converted" / "config.json").read_text())
    end = [] if given["add_source_eos"] else [given["eos_token"]]
    results = ctranslate2.Translator(str(tmp_path / "converted"), intra_threads=1).translate_batch(
        [[source.foreign_names[index] for index in ids] + end for ids in ours.source_tokenizer.encode_batch(LINES)],
        target_prefix=[first] * len(LINES) if first else None,
        suppress_sequences=[[name] for name in never if name in known and name not in first],
        beam_size=1,
        max_decoding_length=MAX_LENGTH + 1,
        min_decoding_length=0,
    )
    for result, translation in zip(results, search(ours, 1), strict=True):
        ids = translation.hypotheses[0].token_ids
        assert result.hypotheses[0][: len(ids)] == [target.foreign_names[index] for index in ids]
