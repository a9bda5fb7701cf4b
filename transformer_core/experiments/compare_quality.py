"""What a trained mixer is worth: its loss, its greedy translations of the validation pairs, and how fast they come."""

import json
import statistics
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from transformer_core.data.lines import read_lines
from transformer_core.decoding.config import SearchConfig
from transformer_core.decoding.generation import model_length_ratio
from transformer_core.decoding.translator import Translator
from transformer_core.evaluation.metrics import MetricName, MetricScore, evaluate_corpus
from transformer_core.experiments.compare_training import MixerRun
from transformer_core.experiments.run_folder import DATA_FOLDER
from transformer_core.experiments.texts import held_back_texts
from transformer_core.model import Transformer
from transformer_core.model_directory import load_model
from transformer_core.model_files import read_config, read_json

__all__ = ["Quality", "TrainedMixer", "describe_mixer"]

NUM_WARM_UP_LINES = 32
LONG_ENOUGH_SECONDS = 1.0  # of decoding; a small validation set is decoded again until so much is spent


@dataclass(frozen=True, kw_only=True)
class Quality:
    """What the weights with the lowest loss are worth on the validation pairs."""

    loss: float  # nats per target token
    perplexity: float
    scores: tuple[MetricScore, ...]  # of greedy translations
    num_lines: int
    lines_per_second: float  # of greedy search


@dataclass(frozen=True, kw_only=True)
class TrainedMixer:
    """A model that was trained."""

    name: str  # a mixer, or UNSCALED
    folder: Path
    d_ff: int
    num_parameters: int
    tokens_per_second: float | None  # target tokens in training, the median of its log
    steps: int | None  # updates
    seconds: float | None  # of training
    quality: Quality | None  # None: training diverged


def describe_mixer(
    mixer_run: MixerRun, metrics: tuple[MetricName, ...], device: torch.device, *, has_diverged: bool
) -> TrainedMixer:
    """Read what training left, and translate the validation pairs with it.

    Raises:
        ModelError: the folder is damaged.
    """
    folder = mixer_run.run.folder
    with torch.device("meta"):
        num_parameters = Transformer(read_config(folder)).num_parameters()
    record = read_json(folder / "metadata.json")["training"]
    validation = record.get("validation", {})  # without a loss, if that was no number
    quality = None
    if not has_diverged and "loss" in validation:
        quality = _measure(mixer_run, metrics, device, validation)
    return TrainedMixer(
        name=mixer_run.name,
        folder=folder,
        d_ff=mixer_run.d_ff,
        num_parameters=num_parameters,
        tokens_per_second=_tokens_per_second(folder),
        steps=record.get("steps"),
        seconds=record.get("seconds"),
        quality=quality,
    )


def _measure(
    mixer_run: MixerRun, metrics: tuple[MetricName, ...], device: torch.device, validation: dict[str, float]
) -> Quality:
    """Translate the validation pairs, as `translate --greedy` does."""
    data, folder = mixer_run.run.data, mixer_run.run.folder
    held_back = [(path,) for text in held_back_texts(folder / DATA_FOLDER, data) for path in text.files]
    sources, references = (
        list(read_lines(given or kept, data.errors))
        for given, kept in zip(data.validation_columns, held_back, strict=True)
    )
    loaded = load_model(folder, device=device)
    search = SearchConfig(beam_size=1, max_length_ratio=model_length_ratio(loaded.generation))
    translator = Translator(loaded.model, loaded.source_tokenizer, loaded.target_tokenizer, search)
    translator.translate(sources[:NUM_WARM_UP_LINES])
    started_at, num_lines = time.perf_counter(), 0
    while True:
        translations = translator.translate(sources)
        num_lines += len(sources)
        elapsed_seconds = time.perf_counter() - started_at
        if elapsed_seconds >= LONG_ENOUGH_SECONDS:
            break
    hypotheses = [translation.text for translation in translations]
    return Quality(
        loss=validation["loss"],
        perplexity=validation["perplexity"],
        scores=tuple(evaluate_corpus(hypotheses, [references], metrics)),
        num_lines=len(sources),
        lines_per_second=num_lines / elapsed_seconds,
    )


def _tokens_per_second(folder: Path) -> float | None:
    """The median of what the log says; None where it says nothing."""
    rates = [
        record["tokens_per_second"]
        for record in map(json.loads, (folder / "metrics.jsonl").read_text(encoding="utf-8").split("\n")[:-1])
        if record["type"] == "step" and record["tokens_per_second"]
    ]
    return statistics.median(rates) if rates else None
