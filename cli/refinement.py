"""What is done to translations before they are written: the best is chosen anew, words are aligned."""

from collections.abc import Sequence
from dataclasses import replace

from transformer_core.decoding.alignment import Aligner
from transformer_core.decoding.translation import Translation
from transformer_core.evaluation.minimum_bayes_risk import Utility, expected_utilities

__all__ = ["Refinement"]


class Refinement:
    """Works on the translations of a window of lines."""

    def __init__(self, utility: Utility | None, aligner: Aligner | None) -> None:
        """Prepare.

        Args:
            utility: by which the best is chosen; None: it stays the first.
            aligner: of words; None: they are not aligned.
        """
        self._utility = utility
        self._aligner = aligner

    def refine(self, lines: Sequence[str], translations: Sequence[Translation], first: int) -> list[Translation]:
        """Do what was asked for with the translations of lines; first: number of the first line, from 1."""
        refined = list(translations)
        if (utility := self._utility) is not None:
            refined = [
                each.ordered_by(expected_utilities([found.text for found in each.hypotheses], utility))
                for each in refined
            ]
        if self._aligner is None:
            return refined
        pairs, numbers = [], []
        for number, (line, each) in enumerate(zip(lines, refined, strict=True), first):
            pairs += [(line, found.token_ids) for found in each.hypotheses]
            numbers += [number] * len(each.hypotheses)
        alignments = iter(self._aligner.align(pairs, numbers))
        return [
            replace(
                each,
                hypotheses=tuple(replace(found, alignment=next(alignments)) for found in each.hypotheses),
            )
            for each in refined
        ]
