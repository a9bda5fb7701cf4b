"""A folder of Hugging Face as one of our models: Marian (OPUS-MT), M2M100 and NLLB, BART and mBART-50.

What such a model is made of is a value of our config; its vocabulary is put in our order (foreign_vocabulary.py); what
it writes first and which language it reads are part of its tokenizers.
"""

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from tokenizer import SPECIAL_TOKENS
from transformer_core.config import ModelConfig, StackConfig, TieEmbeddings
from transformer_core.conversion.foreign_vocabulary import (
    Direction,
    ForeignVocabulary,
    read_vocabularies,
    require_direction,
)
from transformer_core.conversion.foreign_weights import read_foreign_weights
from transformer_core.conversion.hugging_face_names import from_hugging_face
from transformer_core.conversion.imported_folder import Imported
from transformer_core.decoding.config import SearchConfig
from transformer_core.decoding.generation import model_search
from transformer_core.errors import ConfigError, ModelError
from transformer_core.model_files import read_json

__all__ = ["import_hugging_face"]

NORM_FIRST = {"marian": False, "m2m_100": True, "bart": False, "mbart": True}
LEARNED = ("bart", "mbart")
# Decoding defaults of theirs, our names, and how many tokens theirs counts beyond ours: the start token, and in the
# longest the end token; an end is forbidden before the shortest, which leaves that out.
DEFAULTS = {
    "num_beams": ("beam_size", 0),
    "length_penalty": ("length_penalty", 0),
    "early_stopping": ("early_stopping", 0),
    "max_length": ("max_length", 2),
    "min_length": ("min_length", 1),
    "no_repeat_ngram_size": ("no_repeat_ngram", 0),
    "repetition_penalty": ("repetition_penalty", 0),
}
# Those that we do not have, where they do nothing.
UNKNOWN_DEFAULTS = {
    "do_sample": False,
    "num_beam_groups": 1,
    "encoder_no_repeat_ngram_size": 0,
    "encoder_repetition_penalty": 1.0,
    "exponential_decay_length_penalty": None,
    "max_new_tokens": None,
    "min_new_tokens": None,
    "sequence_bias": None,
    "begin_suppress_tokens": None,
}
ACTIVATIONS = {"relu": "relu", "gelu": "gelu", "swish": "silu", "silu": "silu"}


def import_hugging_face(folder: Path, direction: Direction) -> Imported:
    """Read a folder of `transformers`.

    Args:
        folder: with config.json, weights and vocabularies.
        direction: the languages, of a model for several.

    Raises:
        ConfigError: a language is not there, or is needed and not named.
        ModelError: the folder is damaged, or of a kind that cannot be imported.
    """
    given = read_json(folder / "config.json")
    if "model_type" not in given:
        raise ModelError(f"{folder}: its config.json has no model_type, so it is no model of Hugging Face")
    model_type = str(given["model_type"])
    if model_type not in NORM_FIRST:
        kinds = ", ".join(NORM_FIRST)
        raise ModelError(f"{folder}: is a model of type {model_type[:40]!r}; those that can be imported are {kinds}")
    if given.get("is_encoder_decoder") is False:
        raise ModelError(f"{folder}: has no encoder with a decoder; only models with both can be imported")
    weights, weights_path = read_foreign_weights(folder)
    table = weights.get("model.shared.weight", weights.get("model.encoder.embed_tokens.weight"))
    if table is None or table.dim() != 2 or not table.numel():
        raise ModelError(
            f"{weights_path}: lacks the tensor model.shared.weight; its weights are of another kind of model"
        )
    vocabulary = read_vocabularies(folder, given, table.size(0))
    require_direction(vocabulary, direction, folder)
    bias = weights.get("final_logits_bias")
    has_bias = None in vocabulary.order or (bias is not None and bool(bias.any()))
    config = _config(given, model_type, vocabulary, folder, has_bias=has_bias)
    if config.is_encoder_only:
        raise ModelError(
            f"{folder}: its decoder has no layers; only models with an encoder and a decoder can be imported"
        )
    named = from_hugging_face(config, weights, str(weights_path))
    source, target = vocabulary.tokenizers(direction, str(folder))
    order = vocabulary.order
    never_written = [order[index] for index in target.unwritten_ids]
    generation, left_out = _generation(folder, given, config, never_written)
    return Imported(
        config=config,
        weights=vocabulary.reordered(named, str(weights_path)),
        source_tokenizer=source,
        target_tokenizer=target,
        generation=generation,
        left_out=left_out,
        weights_path=weights_path,
    )


def _config(
    given: Mapping[str, Any], model_type: str, vocabulary: ForeignVocabulary, folder: Path, *, has_bias: bool
) -> ModelConfig:
    """Say in our words what a config.json says.

    Raises:
        ModelError: a value is missing, or asks for what our model does not have.
    """
    activation = str(given.get("activation_function"))
    if activation not in ACTIVATIONS:
        raise ModelError(f"{folder}: its activation_function is {activation[:40]!r}, which cannot be imported")
    size = len(vocabulary.order)
    is_learned = model_type in LEARNED
    try:
        return ModelConfig(
            source_vocabulary_size=size,
            target_vocabulary_size=size,
            pad_id=SPECIAL_TOKENS.index("<pad>"),
            bos_id=SPECIAL_TOKENS.index(vocabulary.start),
            eos_id=SPECIAL_TOKENS.index("<eos>"),
            encoder=_stack(given, "encoder"),
            decoder=_stack(given, "decoder"),
            norm_first=NORM_FIRST[model_type],
            activation=ACTIVATIONS[activation],  # type: ignore[arg-type]
            positions="learned" if is_learned else "sinusoidal",
            sinusoid_form="fairseq" if model_type == "m2m_100" else "marian",
            max_positions=int(given["max_position_embeddings"]) if is_learned else ModelConfig.max_positions,
            scale_embedding=bool(given.get("scale_embedding", model_type == "m2m_100")),
            norm_embedding=is_learned,
            tie_embeddings=_ties(given),
            output_bias=has_bias,
            dropout=float(given.get("dropout", 0.1)),
            attention_dropout=float(given.get("attention_dropout", 0.0)),
            activation_dropout=float(given.get("activation_dropout", 0.0)),
        )
    except KeyError as error:
        raise ModelError(f"{folder / 'config.json'}: has no {error.args[0]}") from None
    except (ConfigError, TypeError, ValueError, OverflowError) as error:
        raise ModelError(f"{folder / 'config.json'}: {error}") from None


def _stack(given: Mapping[str, Any], side: str) -> StackConfig:
    return StackConfig(
        num_layers=int(given[f"{side}_layers"]),
        d_model=int(given["d_model"]),
        num_heads=int(given[f"{side}_attention_heads"]),
        d_ff=int(given[f"{side}_ffn_dim"]),
    )


def _ties(given: Mapping[str, Any]) -> TieEmbeddings:
    """Say which tables are one."""
    if not given.get("tie_word_embeddings", True):
        return "none"
    return "all" if given.get("share_encoder_decoder_embeddings", True) else "decoder"


def _generation(
    folder: Path, given: Mapping[str, Any], config: ModelConfig, never_written: Collection[int | None]
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Take over the decoding defaults that we have, too.

    Args:
        folder: with generation_config.json, in newer ones.
        given: its config.json.
        config: of our model.
        never_written: foreign ids that no translation of ours contains anyway; None for what is not there.

    Returns:
        Ours, and the names of those that decide what is written there and are not taken over.
    """
    found = {**given, **read_json(folder / "generation_config.json")}
    generation: dict[str, Any] = {}
    left_out = []
    for theirs, (ours, surplus) in DEFAULTS.items():
        value, usual = found.get(theirs), getattr(SearchConfig, ours)
        if surplus and type(value) is int:
            value = max(0, value - surplus)
        if value in (None, usual, "never"):  # that is how we end a search without early stopping
            continue
        try:
            search = model_search({**generation, ours: value})
        except ModelError:
            left_out.append(theirs)
        else:
            generation[ours] = float(value) if type(usual) is float else getattr(search, ours)
    left_out += [name for name, neutral in UNKNOWN_DEFAULTS.items() if found.get(name) not in (None, neutral)]
    harmless = [*never_written, *([index] for index in never_written)]
    for name in ("bad_words_ids", "suppress_tokens"):
        banned = found.get(name)
        if banned and not (isinstance(banned, list) and all(item in harmless for item in banned)):
            left_out.append(name)
    if config.positions != "learned":  # the longest that it was trained on
        longest = given.get("max_position_embeddings")
        if type(longest) is int and longest > 1:
            generation["max_source_length"] = longest - 1
    return generation, tuple(left_out)
