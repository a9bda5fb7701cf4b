"""Look at a model while it trains: with the code of `translate`, scored by the code of `evaluate`."""

from collections.abc import Sequence
from pathlib import Path

from transformer_core.data.lines import read_lines
from transformer_core.decoding.config import SearchConfig
from transformer_core.decoding.translator import Translator
from transformer_core.evaluation.metrics import METRICS, MetricName, evaluate_corpus
from transformer_core.experiments.corpus_preparation import PreparedData, Tokenizers
from transformer_core.model import Transformer
from transformer_core.model_directory import read_json
from transformer_core.training.config import TrainingConfig
from transformer_core.training.trainer import Decoded

__all__ = ["ValidationDecoder"]


class ValidationDecoder:
    """Translates validation lines and scores the translations."""

    def __init__(self, data: PreparedData, tokenizers: Tokenizers, config: TrainingConfig, folder: Path) -> None:
        self.sources = list(read_lines(data.valid_src))
        self.references = list(read_lines(data.valid_tgt))
        self.tokenizers = tokenizers
        self.metrics: Sequence[MetricName] = [name for name in METRICS if name == config.metric]
        ratio = float(read_json(folder / "generation.json").get("max_length_ratio", SearchConfig.max_length_ratio))
        self.search = SearchConfig(beam_size=config.valid_beam_size, max_length_ratio=ratio)
        self.num_looks = 0

    def __call__(self, model: Transformer, num_lines: int) -> Decoded:
        """Look at all lines, or at `num_lines` of them, other ones each time, for the sake of the sample alone."""
        first = 97 * self.num_looks % len(self.sources) if num_lines else 0
        self.num_looks += 1
        lines = self.sources[first : first + num_lines] if num_lines else self.sources
        translations = Translator(model, *self.tokenizers, self.search).translate(lines)
        hypotheses = [translation.text for translation in translations]
        values: dict[str, float] = {}
        signatures: dict[str, str] = {}
        if not num_lines:
            for score in evaluate_corpus(hypotheses, [self.references], self.metrics):
                values[score.name], signatures[score.name] = score.value, score.signature
        shown = 0 if num_lines else 97 * self.num_looks % len(lines)
        sample = (lines[shown], hypotheses[shown], self.references[first + shown])
        return Decoded(values=values, signatures=signatures, sample=sample)
