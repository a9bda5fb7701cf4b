"""A model for CTranslate2: model.bin, config.json, vocabularies, and the tokenizer and decoding defaults beside them.

CTranslate2 computes all that our models of attention have, gates and RMS norms among it. Its beam search ends when as
many hypotheses have ended as the beam is wide: `translate --early-stopping`.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tokenizer import Tokenizer
from tokenizer.atomic_file import new_folder, write_text
from transformer_core.config import ModelConfig
from transformer_core.conversion.ctranslate2_file import write_arrays
from transformer_core.conversion.ctranslate2_names import ACTIVATIONS, GATES, to_ctranslate2
from transformer_core.conversion.plain_form import plain_form
from transformer_core.conversion.quantization import Quantization
from transformer_core.conversion.requirements import require_attention
from transformer_core.errors import ModelError
from transformer_core.layers.embedding import SINUSOID_FORMS, sinusoids
from transformer_core.layers.norm import EPSILON
from transformer_core.layers.rotary import BASE
from transformer_core.model_directory import LoadedModel, weights_of
from transformer_core.model_files import require_decoder, save_tokenizers, write_json
from transformer_core.new_model import require_free
from transformer_core.weight_file import require_finite

__all__ = ["NEVER", "export_ctranslate2"]

NUM_POSITIONS = 2048  # sinusoids have no end, but the table has
NEVER = -10_000.0  # added to the logit of what is never written; within the range of 16-bit floats
INT16_SCALE = 2**10  # CTranslate2's bound for products of 16-bit integers


def export_ctranslate2(loaded: LoadedModel, folder: Path, quantization: Quantization = "none") -> None:
    """Write a folder that `ctranslate2.Translator` loads, whole or not at all.

    Args:
        loaded: a model with a decoder.
        folder: there is none yet, or an empty one.
        quantization: how weights are stored; it can be changed again when they are loaded.

    Raises:
        ConfigError: the folder is taken.
        ModelError: CTranslate2 cannot compute what the model does, it has no decoder, or a weight is NaN or too large.
    """
    require_decoder(loaded.model.config)
    require_free(folder)
    require_attention(loaded.model.config, "CTranslate2")
    given = weights_of(loaded.model)
    require_finite(given)
    config, weights = plain_form(loaded.model.config, given)
    arrays = to_ctranslate2(config, weights)
    arrays["decoder/projection/bias"] = _bias(config, loaded.target_tokenizer, arrays.get("decoder/projection/bias"))
    arrays |= _positions(config, weights)
    arrays = _quantized(arrays, quantization) | _attributes(config)
    source, target = loaded.source_tokenizer, loaded.target_tokenizer
    with new_folder(folder) as temporary:
        write_arrays(temporary / "model.bin", arrays)
        write_json(temporary / "config.json", _config(source, target))
        names, target_names = entry_names(source), entry_names(target)
        vocabularies = {"shared": names} if names == target_names else {"source": names, "target": target_names}
        for side, entries in vocabularies.items():
            write_text(temporary / f"{side}_vocabulary.json", json.dumps(entries, ensure_ascii=False, indent=1) + "\n")
        save_tokenizers(temporary, source, target)
        # CTranslate2 passes over it; `import` reads it, and there is no shortlist then
        generation = {name: value for name, value in loaded.generation.items() if name != "shortlist"}
        write_json(temporary / "generation.json", generation)


def entry_names(tokenizer: Tokenizer) -> list[str]:
    """The entries of a vocabulary in the order of their ids, as the tokenizer's own file has them."""
    return tokenizer.raw_pieces if tokenizer.imported is None else tokenizer.imported.foreign_names


def _config(source: Tokenizer, target: Tokenizer) -> dict[str, Any]:
    """Give the content of config.json."""
    names = entry_names(target)
    return {
        "unk_token": names[target.unk_id],
        "bos_token": names[target.bos_id],
        "eos_token": names[target.eos_id],
        "decoder_start_token": names[target.bos_id],
        "add_source_bos": False,
        "add_source_eos": True,
        "layer_norm_epsilon": EPSILON,
        "multi_query_attention": False,
    }


def _bias(config: ModelConfig, target: Tokenizer, bias: Tensor | None) -> Tensor:
    """Give the bias of the logits, which keeps what we never write from being written."""
    bias = torch.zeros(config.target_vocabulary_size) if bias is None else bias.clone()
    bias[target.unwritten_ids] = NEVER
    return bias


def _positions(config: ModelConfig, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Give the tables of position encodings; none where attention turns its queries and keys."""
    tables = {}
    for side, table_side, stack in (("encoder", "source", config.encoder), ("decoder", "target", config.decoder)):
        match config.positions:
            case "sinusoidal":
                table = sinusoids(NUM_POSITIONS, stack.d_model, SINUSOID_FORMS[config.sinusoid_form])
            case "learned":
                table = weights[f"{table_side}_embedding.position_embedding.weight"]
            case "none":
                table = torch.zeros(NUM_POSITIONS, stack.d_model)
            case "rotary":
                continue
        tables[f"{side}/position_encodings/encodings"] = table
    return tables


def _attributes(config: ModelConfig) -> dict[str, Tensor]:
    """Give what the specification asks for beside weights."""
    activation = ACTIVATIONS[config.activation] if config.feed_forward == "plain" else GATES[config.feed_forward]
    attributes: dict[str, Tensor] = {}
    for side, stack in (("encoder", config.encoder), ("decoder", config.decoder)):
        attributes |= {
            f"{side}/num_heads": torch.tensor(stack.num_heads, dtype=torch.int16),
            f"{side}/pre_norm": torch.tensor(config.norm_first, dtype=torch.int8),
            f"{side}/activation": torch.tensor(activation, dtype=torch.int8),
            f"{side}/scale_embeddings": torch.tensor(config.scale_embedding, dtype=torch.int8),
        }
        if config.positions == "rotary":
            for number in range(stack.num_layers):
                prefix = f"{side}/layer_{number}/self_attention"
                attributes[f"{prefix}/rotary_dim"] = torch.tensor(0, dtype=torch.int32)  # all of the head
                attributes[f"{prefix}/rotary_interleave"] = torch.tensor(0, dtype=torch.int8)
                attributes[f"{prefix}/rotary_base"] = torch.tensor(BASE)
    return attributes | {
        "encoder/embeddings_merge": torch.tensor(0, dtype=torch.int8),
        "encoder/multi_query_attention": torch.tensor(0, dtype=torch.int8),
        "decoder/alignment_layer": torch.tensor(-2 if config.decoder.num_layers > 1 else -1, dtype=torch.int16),
        "decoder/alignment_heads": torch.tensor(0, dtype=torch.int16),  # the mean of all
        "decoder/start_from_zero_embedding": torch.tensor(0, dtype=torch.int8),
        **{
            f"decoder/{name}": torch.tensor(0, dtype=torch.int8)
            for name in ("alibi", "alibi_use_positive_positions", "scale_alibi")
        },
    }


def _quantized(arrays: dict[str, Tensor], quantization: Quantization) -> dict[str, Tensor]:
    """Store matrices in fewer bits, and the rest as the format wants it beside them.

    Raises:
        ModelError: a number is too large for 16 bits.
    """
    if quantization == "none":
        return arrays
    float_type = torch.bfloat16 if quantization.endswith("bfloat16") else torch.float16
    keeps_floats = quantization in ("int8", "int16")
    quantized: dict[str, Tensor] = {}
    for name, array in arrays.items():
        is_matrix = name.endswith("/weight")
        if is_matrix and quantization.startswith("int8"):
            largest = array.abs().amax(dim=1).clamp(min=torch.finfo(torch.float32).tiny * 127)
            scale = 127.0 / largest
            quantized[name] = (array * scale[:, None]).round().to(torch.int8)
            quantized[f"{name}_scale"] = scale
        elif is_matrix and quantization == "int16":
            scale = INT16_SCALE / array.abs().max()
            quantized[name] = (array * scale).round().to(torch.int16)
            quantized[f"{name}_scale"] = scale
        else:
            quantized[name] = array if keeps_floats else array.to(float_type)
            if not bool(quantized[name].isfinite().all()):
                raise ModelError(
                    f"{name} holds numbers beyond {torch.finfo(float_type).max:,.0f}, the largest of {quantization}; "
                    "take --quantization bfloat16 or int8_bfloat16"
                )
    return quantized
