"""Pretraining as a task for the trainer: the objective on raw text, and a line to look at while it learns."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from tokenizer import Tokenizer
from transformer_core.data.lines import is_blank, read_lines
from transformer_core.data.masking import MaskingVocabulary, corruption_source, infill, mask_tokens
from transformer_core.decoding.config import SearchConfig
from transformer_core.decoding.filling import masked_hidden
from transformer_core.decoding.linear import for_decoding
from transformer_core.decoding.step import decoding_mode
from transformer_core.decoding.translator import Translator
from transformer_core.experiments.config import PretrainingConfig, TrainingRun
from transformer_core.experiments.corpus_preparation import PreparedData
from transformer_core.model import Transformer
from transformer_core.training.objectives import Denoising, Masked
from transformer_core.training.trainer import Decoded, TrainingTask

__all__ = ["SampleDecoder", "pretraining_task"]

MAX_SAMPLES = 1000  # lines among which one is shown at every validation


def pretraining_task(
    run: TrainingRun, config: PretrainingConfig, data: PreparedData, tokenizer: Tokenizer
) -> TrainingTask:
    """Make the task of a run on raw text."""
    vocabulary = MaskingVocabulary.of(tokenizer, whole_words=config.whole_words)
    return TrainingTask(
        objective=Masked(vocabulary) if config.objective == "masked" else Denoising(vocabulary),
        training=data.training,
        validation=data.validation,
        decode=SampleDecoder(run, data, tokenizer, vocabulary),
    )


class SampleDecoder:
    """Corrupts a validation line, another one at every step, and lets the model mend it."""

    def __init__(
        self, run: TrainingRun, data: PreparedData, tokenizer: Tokenizer, vocabulary: MaskingVocabulary
    ) -> None:
        """Read the validation lines."""
        lines = (line for line in read_lines(data.validation_columns[0], run.data.errors) if not is_blank(line))
        encoded = (ids for ids in map(tokenizer.encode, lines) if ids)
        self.rows = [ids[: run.data.max_length] for ids in islice(encoded, MAX_SAMPLES)]
        self.tokenizer = tokenizer
        self.vocabulary = vocabulary

    def __call__(self, model: Transformer, step: int) -> Decoded:
        """Show tokens with masks, what the model put in their place, and what stood there."""
        random = corruption_source(0, step)
        row = np.array(self.rows[int(random.integers(len(self.rows)))])
        if model.config.is_encoder_only:
            _, chosen = mask_tokens(row[None], np.ones((1, len(row)), dtype=np.bool_), self.vocabulary, random)
            corrupted = np.where(chosen[0], self.vocabulary.mask_id, row)
            ready = for_decoding(model, "fp32")
            with decoding_mode(ready.device, "fp32"):
                logits = ready.project(masked_hidden(ready, self.tokenizer, [corrupted.tolist()]))
            predicted = logits.argmax(dim=1).tolist()
            sample = self._show(corrupted.tolist()), self._show(predicted), self._show(row[chosen[0]].tolist())
        else:
            corrupted = infill(row, self.vocabulary.mask_id, random)
            search = SearchConfig(beam_size=1, max_length=len(row) + 10)
            translator = Translator(model, _GivenIds(corrupted.tolist()), self.tokenizer, search)
            (mended,) = translator.translate(["the line"])
            sample = self._show(corrupted.tolist()), mended.text, self.tokenizer.decode(row.tolist())
        return Decoded(values={}, signatures={}, sample=sample)

    def _show(self, token_ids: list[int]) -> str:
        return " ".join(self.tokenizer.tokens(token_ids))


@dataclass(frozen=True)
class _GivenIds:
    """An encoder of one line, whose ids are known."""

    token_ids: list[int]

    def encode(self, line: str) -> list[int]:
        return self.token_ids

    def encode_batch(self, lines: Sequence[str]) -> list[list[int]]:
        return [self.token_ids for _ in lines]
