"""Word error rate, character error rate and exact match, written as sacreBLEU metrics.

A sacreBLEU `Metric` turns every line into a few numbers that are summed over the corpus, and the sums into a score. In
that form these three have signatures, and confidence intervals by the same resampling, like BLEU, chrF and TER.

Lines are compared after Unicode normalisation (NFC: "é" is one character however it was typed), with runs of white
space as one space and none at the ends. So a line has WER 0 just when it has CER 0, and just when it counts as right.
Edits are insertions, deletions and substitutions (Levenshtein, 1966).
"""

import unicodedata
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any, ClassVar

from rapidfuzz.distance import Levenshtein
from sacrebleu.metrics.base import Metric, Score, Signature

__all__ = ["CharacterErrorRate", "ExactMatch", "WordErrorRate"]


class _OwnSignature(Signature):
    """The signature of a metric that is computed here: our version, and how lines are compared."""

    def __init__(self, args: dict[str, Any]) -> None:
        super().__init__(args)
        self.info["version"] = _version()
        self.info.update({"case": "lc" if args["lowercase"] else "mixed", "unit": args["unit"], "norm": "nfc"})


class _LineMetric(Metric):
    """What the three have in common.

    Args:
        lowercase: whether letters that differ only in case are equal.
    """

    _SIGNATURE_TYPE = _OwnSignature
    label: ClassVar[str]  # what tables call the metric
    unit_of_metric: ClassVar[str]  # what is compared

    def __init__(self, lowercase: bool = False) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # sacreBLEU has types, but not on this one
        self.lowercase = lowercase
        self.unit = self.unit_of_metric

    def _preprocess_segment(self, sent: str) -> str:
        return " ".join(unicodedata.normalize("NFC", sent.lower() if self.lowercase else sent).split())

    def _aggregate_and_compute(self, stats: list[list[Any]]) -> Score:
        score = self._compute_score_from_stats([sum(column) for column in zip(*stats, strict=True)])
        assert isinstance(score, Score)
        return score


class _ErrorRate(_LineMetric):
    """Edits for every hundred units of the reference, over the whole corpus.

    With several references a line counts against the one that needs the fewest edits (the longest among equals), and it
    is that one's length that goes into the denominator.
    """

    def _units(self, line: str) -> Sequence[str]:
        raise NotImplementedError

    def _extract_reference_info(self, refs: Sequence[str]) -> dict[str, Any]:
        return {"references": [self._units(reference) for reference in refs]}

    def _compute_segment_statistics(self, hypothesis: str, ref_kwargs: Mapping[str, Any]) -> list[int]:
        units = self._units(hypothesis)
        num_edits, negative_length = min(
            (Levenshtein.distance(units, reference), -len(reference)) for reference in ref_kwargs["references"]
        )
        return [num_edits, -negative_length]

    def _compute_score_from_stats(self, stats: Sequence[Any]) -> Score:
        num_edits, reference_length = int(stats[0]), int(stats[1])
        # Where nothing is expected, any text is all wrong, as in sacreBLEU's TER.
        rate = num_edits / reference_length if reference_length else min(1, num_edits)
        score = Score(self.label, 100.0 * rate)
        score._verbose = f"(edits = {num_edits} ref_len = {reference_length})"
        return score


class WordErrorRate(_ErrorRate):
    """WER: edits between tokens, which are what stands between white space.

    Where a line holds phones it is what papers on pronunciation call the phone error rate.
    """

    label = "WER"
    unit_of_metric = "word"

    def _units(self, line: str) -> Sequence[str]:
        return line.split()


class CharacterErrorRate(_ErrorRate):
    """CER: edits between characters (code points after NFC); the space between two words is one of them."""

    label = "CER"
    unit_of_metric = "char"

    def _units(self, line: str) -> Sequence[str]:
        return line


class ExactMatch(_LineMetric):
    """The percentage of lines that equal one of their references."""

    label = "exact"
    unit_of_metric = "line"

    def _extract_reference_info(self, refs: Sequence[str]) -> dict[str, Any]:
        return {"references": frozenset(refs)}

    def _compute_segment_statistics(self, hypothesis: str, ref_kwargs: Mapping[str, Any]) -> list[int]:
        return [int(hypothesis in ref_kwargs["references"]), 1]

    def _compute_score_from_stats(self, stats: Sequence[Any]) -> Score:
        num_right, num_lines = int(stats[0]), int(stats[1])
        score = Score(self.label, 100.0 * num_right / num_lines)
        score._verbose = f"(right = {num_right} lines = {num_lines})"
        return score


def _version() -> str:
    try:
        return version("transduce")
    except PackageNotFoundError:  # run from a checkout that is not installed
        return "unknown"
