"""A folder of CTranslate2 as one of our models, where its specification is one of ours.

What the model is made of shows in the arrays that it has; quantized weights become floats again. How text is cut is
not part of that format: the tokenizer is read from the files beside it, ours or SentencePiece's; beside ours there are
the decoding defaults, too.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from tokenizer import Tokenizer, TokenizerFileError
from tokenizer.bounded_file import read_bounded
from transformer_core.config import (
    Activation,
    FeedForwardKind,
    ModelConfig,
    Positions,
    SinusoidForm,
    StackConfig,
    TieEmbeddings,
)
from transformer_core.conversion.ctranslate2_file import read_arrays
from transformer_core.conversion.ctranslate2_names import ACTIVATIONS, GATES, from_ctranslate2
from transformer_core.conversion.export_ctranslate2 import NEVER, entry_names
from transformer_core.conversion.foreign_vocabulary import (
    STARTS_FROM_ZERO,
    Direction,
    ForeignVocabulary,
    require_direction,
    vocabulary_of,
)
from transformer_core.conversion.imported_folder import Imported
from transformer_core.decoding.generation import model_search, model_source_limit
from transformer_core.errors import ConfigError, ModelError
from transformer_core.layers.embedding import SINUSOID_FORMS, sinusoids
from transformer_core.layers.rotary import BASE
from transformer_core.model_files import JOINT_TOKENIZER, SOURCE_TOKENIZER, TARGET_TOKENIZER, read_json

__all__ = ["import_ctranslate2"]

Arrays = Mapping[str, Tensor]
STARTS_FROM_ZERO_ARRAY = "decoder/start_from_zero_embedding"
MAX_VOCABULARY_BYTES = 1 << 28
TABLE_TOLERANCE = 2e-3  # of sinusoids that were stored as 16-bit floats


def import_ctranslate2(folder: Path, direction: Direction) -> Imported:
    """Read a folder of CTranslate2 with a tokenizer beside the model: ours, or SentencePiece models.

    Args:
        folder: with model.bin, config.json and vocabularies.
        direction: the languages, of a model for several.

    Raises:
        ConfigError: a language is not there, or is needed and not named.
        ModelError: the folder is damaged, or of a kind that cannot be imported.
    """
    path = folder / "model.bin"
    arrays = _as_floats(read_arrays(path), path)
    vocabulary: ForeignVocabulary | None = None
    generation: dict[str, Any] = {}
    if (folder / JOINT_TOKENIZER).exists() or (folder / SOURCE_TOKENIZER).exists():
        source, target = _read_tokenizers(folder)
        generation = _read_generation(folder / "generation.json")
    else:
        starts_from_zero = STARTS_FROM_ZERO_ARRAY in arrays and bool(arrays[STARTS_FROM_ZERO_ARRAY].any())
        vocabulary = _foreign_vocabulary(folder, starts_from_zero=starts_from_zero)
        require_direction(vocabulary, direction, folder)
        source, target = vocabulary.tokenizers(direction, str(folder))
    try:
        config = _config(arrays, source, target, path)
    except (KeyError, ConfigError, ValueError, IndexError, ArithmeticError) as error:
        reason = f"lacks the array {error.args[0]}" if isinstance(error, KeyError) else str(error)
        raise ModelError(f"{path}: {reason}; only models of a known layout can be imported") from None
    if vocabulary is not None and None in vocabulary.order:
        config = replace(config, output_bias=True)
    weights = from_ctranslate2(config, arrays, str(path))
    if config.output_bias and "output_projection.bias" not in weights:
        weights["output_projection.bias"] = torch.zeros(len(arrays["decoder/projection/weight"]))
    if vocabulary is not None:
        weights = vocabulary.reordered(weights, str(path))
    return Imported(
        config=config,
        weights=weights,
        source_tokenizer=source,
        target_tokenizer=target,
        generation=generation,
        weights_path=path,
    )


def _foreign_vocabulary(folder: Path, *, starts_from_zero: bool) -> ForeignVocabulary:
    """Read the vocabulary of a model that others have converted, with the SentencePiece models that cut its text."""
    entries = _vocabulary(folder, "source")
    if entries != _vocabulary(folder, "target"):
        raise ModelError(f"{folder}: has two vocabularies, and a SentencePiece model for one; it cannot be imported")
    given = read_json(folder / "config.json")
    names: dict[str, int] = {}
    for index, entry in enumerate(entries):
        names.setdefault(entry, index)
    if "decoder_start_token" not in given:
        raise ModelError(f"{folder / 'config.json'}: has no decoder_start_token; the folder is damaged")
    ids = {
        "eos_token_id": names.get(str(given.get("eos_token"))),
        "decoder_start_token_id": STARTS_FROM_ZERO
        if starts_from_zero
        else names.get(str(given["decoder_start_token"])),
        "pad_token_id": names.get("<pad>", names.get("<blank>")),
    }
    return vocabulary_of(folder, names, ids, len(entries))


def _as_floats(arrays: Arrays, path: Path) -> dict[str, Tensor]:
    """Undo quantization: integers are divided by their scale, which goes."""
    floats: dict[str, Tensor] = {}
    for name, array in arrays.items():
        if name.endswith("_scale"):
            continue
        scale = arrays.get(f"{name}_scale")
        if scale is None:
            floats[name] = array.float() if array.is_floating_point() else array
            continue
        if scale.numel() not in (1, array.size(0) if array.dim() == 2 else 1):
            raise ModelError(f"{path}: the scale of {name[:80]} has shape {tuple(scale.shape)}; the file is damaged")
        floats[name] = array.float() / (scale.float().view(-1, 1) if array.dim() == 2 else scale.float().view(()))
    # one tensor under two names stays one: that is how a tie shows
    twins = {id(arrays[name]): name for name in sorted(floats, reverse=True)}
    return {name: floats[twins[id(arrays[name])]] for name in floats}


def _read_tokenizers(folder: Path) -> tuple[Tokenizer, Tokenizer]:
    """Read our tokenizers beside a model, and see that its vocabularies are theirs.

    Raises:
        ModelError: they are damaged, or others.
    """
    names = [JOINT_TOKENIZER] if (folder / JOINT_TOKENIZER).exists() else [SOURCE_TOKENIZER, TARGET_TOKENIZER]
    try:
        found = [Tokenizer.load(folder / name) for name in names]
    except TokenizerFileError as error:
        raise ModelError(str(error)) from None
    for side, tokenizer in (("source", found[0]), ("target", found[-1])):
        if _vocabulary(folder, side) != entry_names(tokenizer):
            raise ModelError(f"{folder}: its {side} vocabulary is not that of its tokenizer")
    start = read_json(folder / "config.json").get("decoder_start_token")
    if start != entry_names(found[-1])[found[-1].bos_id]:
        raise ModelError(f"{folder}: its decoder starts with {str(start)[:40]!r}, its tokenizer with another token")
    return found[0], found[-1]


def _read_generation(path: Path) -> dict[str, Any]:
    """Read our decoding defaults, which `export` writes beside our tokenizers; none where there is no such file.

    Raises:
        ModelError: they are damaged.
    """
    generation = read_json(path)
    model_search(generation, str(path))
    model_source_limit(generation)
    return generation


def _vocabulary(folder: Path, side: str) -> Sequence[str]:
    """Read the entries of a side in the order of their ids."""
    for name in (f"{side}_vocabulary.json", "shared_vocabulary.json"):
        path = folder / name
        if path.exists():
            try:
                content = json.loads(read_bounded(path, MAX_VOCABULARY_BYTES))
            except (OSError, ValueError, RecursionError) as error:
                raise ModelError(f"{path}: is not JSON ({error})") from None
            if not isinstance(content, list) or not all(isinstance(entry, str) for entry in content):
                raise ModelError(f"{path}: is no list of entries")
            return content
    raise ModelError(f"{folder}: has no {side}_vocabulary.json and no shared_vocabulary.json")


def _config(arrays: Arrays, source: Tokenizer, target: Tokenizer, path: Path) -> ModelConfig:
    """Say in our words what a model is made of.

    Raises:
        KeyError, ConfigError, ValueError: an array is missing, or a value is none of ours.
    """
    encoder, decoder = _stack(arrays, "encoder"), _stack(arrays, "decoder")
    positions, form, max_positions = _positions(arrays, encoder.d_model, path)
    feed_forward, activation = _feed_forward(arrays)
    return ModelConfig(
        source_vocabulary_size=source.vocabulary_size,
        target_vocabulary_size=target.vocabulary_size,
        pad_id=target.pad_id,
        bos_id=target.bos_id,
        eos_id=target.eos_id,
        encoder=encoder,
        decoder=decoder,
        norm_first=_number(arrays, "encoder/pre_norm") != 0,
        norm_kind="layer" if "encoder/layer_0/ffn/layer_norm/beta" in arrays else "rms",
        feed_forward=feed_forward,
        activation=activation,
        positions=positions,
        sinusoid_form=form,
        max_positions=max_positions,
        scale_embedding=_is_scaled(arrays, encoder.d_model),
        norm_embedding="encoder/layernorm_embedding/gamma" in arrays,
        tie_embeddings=_ties(arrays),
        output_bias=_has_bias(arrays),
    )


def _is_scaled(arrays: Arrays, d_model: int) -> bool:
    """Tell whether token vectors are multiplied by √d_model: a truth value says so, or the factor itself.

    Raises:
        ValueError: they are multiplied by something else, or on one side alone.
    """
    factors = {float(arrays[f"{side}/scale_embeddings"].flatten()[0]) for side in ("encoder", "decoder")}
    is_factor = arrays["encoder/scale_embeddings"].is_floating_point()
    if factors == {1.0}:
        return not is_factor
    if factors == {0.0} and not is_factor:
        return False
    if not all(math.isclose(factor, math.sqrt(d_model), rel_tol=1e-3) for factor in factors):
        raise ValueError("its embeddings are multiplied by another factor than √d_model")
    return True


def _number(arrays: Arrays, name: str) -> int:
    return int(arrays[name].flatten()[0])


def _stack(arrays: Arrays, side: str) -> StackConfig:
    numbers = {name.split("/")[1] for name in arrays if name.startswith(f"{side}/layer_")} - {"layer_norm"}
    inner = arrays[f"{side}/layer_0/ffn/linear_0/weight"]
    num_heads = _number(arrays, f"{side}/num_heads")
    d_ff, d_model = inner.shape
    # queries, keys and values in one: d_model rows, and twice those of the heads with keys and values of their own
    num_rows = arrays[f"{side}/layer_0/self_attention/linear_0/weight"].size(0) - d_model
    key_heads = num_rows // 2 // (d_model // num_heads)
    return StackConfig(
        num_layers=len(numbers),
        d_model=d_model,
        num_heads=num_heads,
        d_ff=d_ff,
        num_key_value_heads=None if key_heads == num_heads else key_heads,
    )


def _feed_forward(arrays: Arrays) -> tuple[FeedForwardKind, Activation]:
    """Say which feed-forward it is.

    Raises:
        ValueError: its activation is none of ours.
    """
    number = _number(arrays, "encoder/activation")
    is_gated = "encoder/layer_0/ffn/linear_0_noact/weight" in arrays
    names = {value: name for name, value in (GATES if is_gated else ACTIVATIONS).items()}
    if number not in names or number != _number(arrays, "decoder/activation"):
        raise ValueError(f"its activation has the number {number}, which is none of ours")
    if is_gated:
        return cast(FeedForwardKind, names[number]), ModelConfig.activation
    return "plain", cast(Activation, names[number])


def _positions(arrays: Arrays, d_model: int, path: Path) -> tuple[Positions, SinusoidForm, int]:
    """Tell positions by their table.

    Raises:
        ValueError: they are none of ours.
    """
    usual = ModelConfig.sinusoid_form, ModelConfig.max_positions
    is_rotary = {_is_rotary(arrays, f"{side}/layer_0/self_attention") for side in ("encoder", "decoder")}
    if is_rotary == {True}:
        return "rotary", *usual
    if len(is_rotary) > 1:
        raise ValueError("its positions are rotary on one side alone")
    table = arrays["encoder/position_encodings/encodings"]
    if table.dim() != 2 or table.size(1) != d_model:
        raise ValueError(f"its positions have shape {tuple(table.shape)}")
    if not bool(table.any()):
        return "none", *usual
    for name, form in SINUSOID_FORMS.items():
        if d_model % 2 == 0 and torch.allclose(table, sinusoids(table.size(0), d_model, form), atol=TABLE_TOLERANCE):
            return "sinusoidal", cast(SinusoidForm, name), ModelConfig.max_positions
    return "learned", ModelConfig.sinusoid_form, table.size(0)


def _is_rotary(arrays: Arrays, prefix: str) -> bool:
    """Tell whether a layer turns queries and keys.

    Raises:
        ValueError: it does so in another way than ours.
    """
    if f"{prefix}/rotary_dim" not in arrays:
        return False
    base = arrays.get(f"{prefix}/rotary_base", torch.tensor(BASE))
    others = [_number(arrays, f"{prefix}/{name}") for name in ("rotary_dim", "rotary_interleave")]
    if any(others) or float(base.flatten()[0]) != BASE:
        raise ValueError("its rotary positions are turned in another way than ours")
    return True


def _ties(arrays: Arrays) -> TieEmbeddings:
    """Say which tables are one."""
    source, target = arrays["encoder/embeddings_0/weight"], arrays["decoder/embeddings/weight"]
    output = arrays["decoder/projection/weight"]
    if target is not output:
        return "none"
    return "all" if source is target else "decoder"


def _has_bias(arrays: Arrays) -> bool:
    """Tell whether the bias of the logits does more than to forbid special tokens, which we do anyway."""
    bias: Tensor | None = arrays.get("decoder/projection/bias")
    return bias is not None and bool(((bias != 0) & (bias > NEVER * 0.9)).any())
