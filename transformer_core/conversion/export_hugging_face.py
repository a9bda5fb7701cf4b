"""A model for `transformers`: the class of its that computes the same, the tokenizer, and the decoding defaults.

    norm last, sinusoids              Marian
    norm first, sinusoids             Pegasus
    norm first, fairseq's sinusoids   M2M100
    learned positions, and a norm over the embeddings (imported models have it): BART (norm last), mBART (norm first)

All of them divide scores by √d_head, have biases everywhere, and put sines before cosines: plain_form.py sees to that.
"""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tokenizer.atomic_file import new_folder
from transformer_core.config import ModelConfig
from transformer_core.conversion.hugging_face_names import to_hugging_face
from transformer_core.conversion.hugging_face_tokenizer import PAD_BEFORE_BOS, write_tokenizers
from transformer_core.conversion.plain_form import plain_form
from transformer_core.conversion.requirements import refuse, require_attention
from transformer_core.decoding.config import SearchConfig
from transformer_core.layers.embedding import SINUSOID_FORMS, sinusoids
from transformer_core.model_directory import LoadedModel, weights_of
from transformer_core.model_files import require_decoder, write_json
from transformer_core.new_model import require_free
from transformer_core.weight_file import require_finite, write_weights

__all__ = ["export_hugging_face"]

CLASSES = {
    "marian": "MarianMTModel",
    "pegasus": "PegasusForConditionalGeneration",
    "m2m_100": "M2M100ForConditionalGeneration",
    "bart": "BartForConditionalGeneration",
    "mbart": "MBartForConditionalGeneration",
}
NUM_POSITIONS = 1024  # sinusoids have no end, but the table of `transformers` has
MAX_LENGTH = 512  # of a translation, where nobody says otherwise


def export_hugging_face(loaded: LoadedModel, folder: Path, search: SearchConfig) -> str | None:
    """Write a folder that `AutoModelForSeq2SeqLM` and `AutoTokenizer` load, whole or not at all.

    Args:
        loaded: a model with a decoder; tagged, if it translates in several directions.
        folder: there is none yet, or an empty one.
        search: the defaults of decoding.

    Returns:
        What has to be put before every source line there, because its tokenizer does not; None: nothing.

    Raises:
        ConfigError: the folder is taken.
        ModelError: no class of `transformers` computes what the model does, it has no decoder, or a weight is NaN.
    """
    require_decoder(loaded.model.config)
    require_free(folder)
    given = weights_of(loaded.model)
    require_finite(given)
    config, weights = plain_form(loaded.model.config, given)
    model_type = _model_type(config)
    named = to_hugging_face(config, weights)
    if model_type == "pegasus":  # its class does not compute the table where the file has none
        table = sinusoids(NUM_POSITIONS, config.encoder.d_model, SINUSOID_FORMS[config.sinusoid_form])
        named |= {f"model.{side}.embed_positions.weight": table.clone() for side in ("encoder", "decoder")}
    if model_type == "m2m_100":
        named = {name: _pad_before_bos(name, weight) for name, weight in named.items()}
    with new_folder(folder) as temporary:
        write_json(temporary / "config.json", _config(config, model_type))
        write_json(temporary / "generation_config.json", _generation(loaded, config, model_type, search))
        write_weights(temporary / "model.safetensors", named, {"format": "pt"})
        max_length = _num_positions(config)
        return write_tokenizers(temporary, model_type, loaded.source_tokenizer, loaded.target_tokenizer, max_length)


def _model_type(config: ModelConfig) -> str:
    """Choose the class of `transformers`, by its type.

    Raises:
        ModelError: none computes what the model does.
    """
    require_attention(config, "Hugging Face")
    if config.encoder.d_model != config.decoder.d_model:
        raise refuse("--enc-d-model and --dec-d-model that differ", "Hugging Face has one width for both stacks")
    if config.norm_kind != "layer":
        raise refuse(f"--norm-kind {config.norm_kind}", "Hugging Face's models for translation have LayerNorm")
    if config.feed_forward != "plain":
        raise refuse(f"--feed-forward {config.feed_forward}", "Hugging Face's have no gate there")
    model_type = _type_by_positions(config)
    if model_type != "marian" and config.tie_embeddings != "all":
        raise refuse(
            f"--tie-embeddings {config.tie_embeddings}",
            f"Hugging Face has one table in models like this one ({model_type}); with --norm last there may be two",
        )
    if model_type == "m2m_100" and config.output_bias:
        raise refuse("biases of the output projection", "M2M100 has none")
    return model_type


def _type_by_positions(config: ModelConfig) -> str:
    """Choose by what differs between the types.

    Raises:
        ModelError: no type has these positions.
    """
    match config.positions, config.norm_first, config.norm_embedding:
        case "sinusoidal", False, False if config.sinusoid_form == "marian":
            return "marian"
        case "sinusoidal", True, False:
            return "pegasus" if config.sinusoid_form == "marian" else "m2m_100"
        case "sinusoidal", False, False:
            raise refuse(f"--sinusoid-form {config.sinusoid_form} and --norm last", "no model of Hugging Face has both")
        case "learned", False, True:
            return "bart"
        case "learned", True, True:
            return "mbart"
        case _:
            raise refuse(
                f"--positions {config.positions}",
                "Hugging Face's models of this shape have sinusoids; train it with --positions sinusoidal",
            )


def _num_positions(config: ModelConfig) -> int:
    return config.max_positions if config.positions == "learned" else NUM_POSITIONS


def _config(config: ModelConfig, model_type: str) -> dict[str, Any]:
    """Give the content of config.json."""
    is_shared = config.tie_embeddings == "all"
    content: dict[str, Any] = {
        "model_type": model_type,
        "architectures": [CLASSES[model_type]],
        "is_encoder_decoder": True,
        "vocab_size": config.source_vocabulary_size,
        "d_model": config.encoder.d_model,
        "activation_function": config.activation,
        "scale_embedding": config.scale_embedding,
        "max_position_embeddings": _num_positions(config),
        "dropout": config.dropout,
        "attention_dropout": config.attention_dropout,
        "activation_dropout": config.activation_dropout,
        "encoder_layerdrop": 0.0,
        "decoder_layerdrop": 0.0,
        "forced_eos_token_id": None,  # else a hypothesis that is cut off would win over one that ends
        "tie_word_embeddings": config.tie_embeddings != "none",
        "torch_dtype": "float32",
        **_special_ids(config, model_type),
    }
    if model_type == "marian":
        content |= {
            "decoder_vocab_size": config.target_vocabulary_size,
            "share_encoder_decoder_embeddings": is_shared,
        }
    for side, stack in (("encoder", config.encoder), ("decoder", config.decoder)):
        content[f"{side}_layers"] = stack.num_layers
        content[f"{side}_attention_heads"] = stack.num_heads
        content[f"{side}_ffn_dim"] = stack.d_ff
    return content


def _special_ids(config: ModelConfig, model_type: str) -> dict[str, int]:
    """Give the special ids as `transformers` calls them."""
    ids = {
        "pad_token_id": config.pad_id,
        "eos_token_id": config.eos_id,
        "bos_token_id": config.bos_id,
        "decoder_start_token_id": config.bos_id,
    }
    return {name: PAD_BEFORE_BOS.get(index, index) if model_type == "m2m_100" else index for name, index in ids.items()}


def _generation(loaded: LoadedModel, config: ModelConfig, model_type: str, search: SearchConfig) -> dict[str, Any]:
    """Give the content of generation_config.json: our search by the names of `transformers`.

    Raises:
        ModelError: the length penalty is one that it does not have.
    """
    if search.length_penalty_type == "gnmt":
        raise refuse("--length-penalty-type gnmt in its generation.json", "Hugging Face divides by the length alone")
    target = loaded.target_tokenizer
    never_written = {*target.unwritten_ids, *([target.unk_id] if search.ban_unk else [])}
    if target.first_ids:  # of many languages one is forced, and its user may force another one
        never_written -= {*target.first_ids, *target.tags.values()}
    longest = MAX_LENGTH if search.max_length is None else search.max_length + 2  # the start and the end token
    content: dict[str, Any] = {
        **_special_ids(config, model_type),
        "num_beams": search.beam_size,
        "length_penalty": 0.0 if search.length_penalty_type == "none" else search.length_penalty,
        "early_stopping": search.early_stopping,
        "max_length": min(longest, _num_positions(config)),
        "suppress_tokens": sorted(never_written),
    }
    if model_type == "m2m_100":
        content["suppress_tokens"] = sorted(PAD_BEFORE_BOS.get(index, index) for index in never_written)
    if target.first_ids:
        content["forced_bos_token_id"] = target.first_ids[0]
    if search.min_length:
        content["min_length"] = search.min_length + 1  # the start token is counted there
    if search.no_repeat_ngram:
        content["no_repeat_ngram_size"] = search.no_repeat_ngram
    if search.repetition_penalty != 1:
        content["repetition_penalty"] = search.repetition_penalty
    if search.sample:
        content |= {"do_sample": True, "temperature": search.temperature, "top_k": search.top_k, "top_p": search.top_p}
    return content


def _pad_before_bos(name: str, weight: Tensor) -> Tensor:
    """Exchange the first two rows of a table of the vocabulary."""
    if name not in ("model.shared.weight", "lm_head.weight"):
        return weight
    return torch.cat((weight[1:2], weight[0:1], weight[2:]))
