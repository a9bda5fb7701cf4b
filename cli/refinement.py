"""What is done to translations before they are written: the best is chosen anew, words are aligned."""

from collections.abc import Sequence
from dataclasses import replace

from tokenizer import Tokenizer
from transformer_core.decoding.alignment import Aligner
from transformer_core.decoding.config import BatchConfig
from transformer_core.decoding.translation import Translation
from transformer_core.evaluation.minimum_bayes_risk import Utility, expected_utilities
from transformer_core.model import Transformer

__all__ = ["Refinement"]


class Refinement:
    """Works on the translations of a window of lines."""

    def __init__(
        self,
        model: Transformer,
        source_tokenizer: Tokenizer,
        target_tokenizer: Tokenizer,
        batching: BatchConfig,
        utility: Utility | None,
        *,
        has_alignments: bool,
    ) -> None:
        """Prepare.

        Args:
            model: whose attention aligns.
            source_tokenizer: of the lines.
            target_tokenizer: of the translations.
            batching: size of the batches and precision.
            utility: by which the best is chosen; None: it stays the first.
            has_alignments: whether words are aligned.
        """
        self._utility = utility
        self._aligner = Aligner(model, source_tokenizer, target_tokenizer, batching) if has_alignments else None

    def refine(self, lines: Sequence[str], translations: Sequence[Translation]) -> list[Translation]:
        """Do what was asked for with the translations of lines."""
        refined = list(translations)
        if (utility := self._utility) is not None:
            refined = [
                each.ordered_by(expected_utilities([found.text for found in each.hypotheses], utility))
                for each in refined
            ]
        if self._aligner is None:
            return refined
        pairs = [
            (line, found.token_ids) for line, each in zip(lines, refined, strict=True) for found in each.hypotheses
        ]
        alignments = iter(self._aligner.align(pairs))
        return [
            replace(
                each,
                hypotheses=tuple(replace(found, alignment=next(alignments)) for found in each.hypotheses),
            )
            for each in refined
        ]
