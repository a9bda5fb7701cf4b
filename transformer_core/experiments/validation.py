"""Look at a model while it trains: with the code of `translate`, scored by the code of `evaluate`."""

import random
from collections.abc import Sequence
from itertools import groupby, repeat

from transformer_core.data.pairs import read_pairs
from transformer_core.decoding.config import SearchConfig
from transformer_core.decoding.generation import model_length_ratio
from transformer_core.decoding.translator import Translator
from transformer_core.errors import DataError
from transformer_core.evaluation.metrics import METRICS, MetricName, MetricOptions, evaluate_corpus
from transformer_core.experiments.config import TrainingRun
from transformer_core.experiments.corpus_preparation import PreparedData
from transformer_core.experiments.vocabulary_choice import Tokenizers
from transformer_core.model import Transformer
from transformer_core.model_directory import plain_model
from transformer_core.model_files import read_json
from transformer_core.training.trainer import Decoded

__all__ = ["ValidationDecoder"]


class ValidationDecoder:
    """Translates validation lines and scores the translations."""

    def __init__(self, run: TrainingRun, data: PreparedData, tokenizers: Tokenizers) -> None:
        """Read the validation text; `run` is described in its folder already."""
        self.sources: list[str] = []
        self.references: list[str] = []
        self.tags: list[str | None] = []
        files = zip(*data.validation_columns, strict=True)
        for (source_path, target_path), tag in zip(files, data.validation_tags or repeat(None), strict=False):
            pairs = read_pairs([source_path], [target_path], run.data.errors, data.validation_form)
            for source, reference in pairs:
                self.sources.append(source)
                self.references.append(reference)
                self.tags.append(tag)
        if not self.sources:
            raise DataError(f"{data.validation_columns[0][0]}: holds no pair any more; make it again with --overwrite")
        self.tokenizers = tokenizers
        self.metrics: Sequence[MetricName] = [name for name in METRICS if name == run.training.metric]
        # a model that writes no capitals is not judged by them
        lowercase = tokenizers[1].config.lowercase
        self.metric_options = MetricOptions(lowercase=lowercase, chrf_lowercase=lowercase)
        ratio = model_length_ratio(read_json(run.folder / "generation.json"))
        self.search = SearchConfig(beam_size=run.training.valid_beam_size, max_length_ratio=ratio)

    def __call__(self, model: Transformer, step: int) -> Decoded:
        """Translate all lines if the metric is one of text, else the sample alone: another line at every step."""
        shown = random.Random(step).randrange(len(self.sources))
        if not self.metrics:
            translation = self._translate(model, [shown])[0]
            sample = (self.sources[shown], translation, self.references[shown])
            return Decoded(values={}, signatures={}, sample=sample)
        hypotheses = self._translate(model, range(len(self.sources)))
        scores = evaluate_corpus(hypotheses, [self.references], self.metrics, self.metric_options)
        return Decoded(
            values={score.name: score.value for score in scores},
            signatures={score.name: score.signature for score in scores},
            sample=(self.sources[shown], hypotheses[shown], self.references[shown]),
        )

    def _translate(self, model: Transformer, numbers: Sequence[int]) -> list[str]:
        """Translate the lines with these numbers; those that have the same tag together."""
        source, target = self.tokenizers
        found, plain = [], plain_model(model)
        for tag, group in groupby(numbers, lambda number: self.tags[number]):
            translator = Translator(plain, source.tagged(tag), target, self.search)
            found += translator.translate([self.sources[number] for number in group])
        return [translation.text for translation in found]
