"""What `transduce inspect model` says of a model."""

from collections.abc import Iterator, Mapping
from json import dumps
from typing import Any

from tokenizer import Tokenizer
from transformer_core.config import ModelConfig, StackConfig
from transformer_core.inspection.labels import visible
from transformer_core.inspection.model_summary import ModelSummary

__all__ = ["to_json", "to_text"]

NAME_WIDTH = 20  # characters
SHOWN_HASH = 12  # digits of a hash, for the eye


def to_json(summary: ModelSummary) -> str:
    """Everything as one JSON object."""
    return dumps(summary.to_dict(), ensure_ascii=False)


def to_text(summary: ModelSummary) -> str:
    """Everything as lines for the eye."""
    rows = [
        ("model", str(summary.folder)),
        *_architecture(summary.config),
        *_parameters(summary.num_parameters),
        *_tokenizers(summary),
        ("decoding", _pairs(summary.generation) or "no defaults of its own"),
        *_training(summary),
        *_origin(summary.metadata),
    ]
    if summary.is_verified:
        rows.append(("files", "as they were written"))
    return "".join(f"{visible(name):<{NAME_WIDTH}}{visible(' '.join(value.splitlines()))}\n" for name, value in rows)


def _architecture(config: ModelConfig) -> Iterator[tuple[str, str]]:
    yield "encoder", _stack(config.encoder, is_encoder=True)
    no_decoder = "none: a pretrained encoder, for `transduce fill` and `transduce train --init-from`"
    yield "decoder", no_decoder if config.is_encoder_only else _stack(config.decoder, is_encoder=False)
    match config.positions:
        case "sinusoidal":
            positions = f"sinusoidal ({config.sinusoid_form})"
        case "learned":
            positions = f"learned, {config.max_positions:,} at most"
        case positions:
            pass
    norm = f"{'LayerNorm' if config.norm_kind == 'layer' else 'RMSNorm'} {'first' if config.norm_first else 'last'}"
    feed_forward = config.activation if config.feed_forward == "plain" else config.feed_forward
    attention = ", queries and keys normed" if config.query_key_norm else ""
    attention += "" if config.scale_attention else ", attention not scaled"
    yield "layers", f"{norm}, {feed_forward}, positions {positions}, tied embeddings {config.tie_embeddings}{attention}"
    yield (
        "dropout",
        f"{config.dropout:g}, of attention {config.attention_dropout:g}, of activations {config.activation_dropout:g}",
    )


def _stack(stack: StackConfig, *, is_encoder: bool) -> str:
    layers = "1 layer" if stack.num_layers == 1 else f"{stack.num_layers} layers"
    if stack.share_layers:
        layers = f"1 layer used {stack.num_layers} times,"
    mixer: str = stack.mixer
    if stack.mixer in ("gru", "lstm"):
        mixer += " both ways" if is_encoder and stack.bidirectional else " forward"
    if stack.mixer == "conv":
        mixer += f" of width {stack.kernel_width}"
    heads = f"{stack.num_heads} heads"
    if stack.num_key_value_heads is not None:
        heads += f" ({stack.num_key_value_heads} of keys and values)"
    return f"{layers} of {mixer}, d_model {stack.d_model}, {heads}, d_ff {stack.d_ff}"


def _parameters(num_parameters: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    yield "parameters", f"{sum(num_parameters.values()):,}"
    for part, count in num_parameters.items():
        yield f"  {part.replace('_', ' ')}", f"{count:,}"


def _tokenizers(summary: ModelSummary) -> Iterator[tuple[str, str]]:
    if summary.source_tokenizer is summary.target_tokenizer:
        yield "tokenizer", f"{_tokenizer(summary.source_tokenizer)}, joint"
    else:
        yield "source tokenizer", _tokenizer(summary.source_tokenizer)
        yield "target tokenizer", _tokenizer(summary.target_tokenizer)


def _tokenizer(tokenizer: Tokenizer) -> str:
    config = tokenizer.config
    lowercase = ", lowercase" if config.lowercase else ""
    return f"{config.kind}, {tokenizer.vocabulary_size:,} entries, {config.normalization}{lowercase}"


def _training(summary: ModelSummary) -> Iterator[tuple[str, str]]:
    """How far training came and what the weights are worth."""
    if pretraining := _pairs(summary.metadata.get("pretraining")):
        yield "pretraining", pretraining
    record = summary.metadata.get("training")
    if not isinstance(record, dict):
        return
    if "reason" in record:
        yield "training", str(record["reason"])
        averaged = record.get("averaged_steps")
        steps = averaged if isinstance(averaged, list) and averaged else [record.get("best_step")]
        mean = "the mean of those of steps" if len(steps) > 1 else "of step"
        yield "weights", f"{mean} {', '.join(map(str, steps))}"
        yield "validation", _pairs(record.get("validation"))
    else:
        yield "training", "has not ended"
        if summary.best_validation is not None:
            yield "weights", f"of step {summary.best_validation.get('step')}"
            yield "validation", _pairs(summary.best_validation.get("values"))


def _origin(metadata: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """What made the model, and of what."""
    if software := _pairs(metadata.get("software")):
        yield "made by", software
    if command := metadata.get("command"):
        yield "command", str(command)
    for name, files in _items(metadata.get("data")):
        for file in files if isinstance(files, list) else ():
            yield f"  {name.replace('_', '-')}", _file(file)
    if isinstance(start := metadata.get("init_from"), dict):
        yield "started from", _file(start)
    if isinstance(teacher := metadata.get("teacher"), dict):
        models = teacher.get("models")
        for number, file in enumerate(models if isinstance(models, list) else ()):
            yield "" if number else "taught by", _file(file)
        yield "", _pairs(teacher.get("search"))
    averaged = metadata.get("averaged")
    for number, file in enumerate(averaged if isinstance(averaged, list) else ()):
        yield "" if number else "mean of", _file(file)


def _file(file: object) -> str:
    """A path and the start of its hash."""
    facts = dict(_items(file))
    return f"{facts.get('path')} (sha256 {str(facts.get('sha256'))[:SHOWN_HASH]})"


def _pairs(values: object) -> str:
    """Names with their values, numbers short."""
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}" for name, value in _items(values)
    )


def _items(values: object) -> list[tuple[str, Any]]:
    """The items of what should be an object; a damaged file may hold anything."""
    return list(values.items()) if isinstance(values, dict) else []
