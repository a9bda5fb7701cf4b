"""How `evaluate` writes scores: a table for the eye, numbers alone, or JSON."""

from collections.abc import Sequence
from dataclasses import dataclass
from json import dumps
from pathlib import Path

from cli import console
from cli.text_table import columns
from transformer_core.evaluation.metrics import MetricScore

__all__ = ["EvaluationReport"]


@dataclass(frozen=True, kw_only=True)
class EvaluationReport:
    """How scores are written."""

    num_references: int
    width: int | None  # digits after the point; None: 1 in text, all in JSON
    is_json: bool
    is_score_only: bool

    def write(self, scores: Sequence[tuple[Path, int, MetricScore]]) -> None:
        """Write scores of whole files, each with its system and its number of lines."""
        if self.is_json:
            for path, num_lines, score in scores:
                console.write_line(self._to_json(score, {"system": str(path), "num_lines": num_lines}))
        elif self.is_score_only:
            for _, _, score in scores:
                console.write_line(self._to_text(score))
        else:
            self._write_table(scores)

    def write_line_scores(self, path: Path, number: int, scores: Sequence[MetricScore]) -> None:
        """Write the scores of one line, with a tab between metrics; what they are stands on stderr, or in the JSON."""
        if self.is_json:
            for score in scores:
                console.write_line(self._to_json(score, {"system": str(path), "line": number}))
            return
        if number == 1 and not self.is_score_only:
            for score in scores:
                console.info(f"{score.label}: {score.signature}")
        console.write_line("\t".join(map(self._to_text, scores)))

    def _write_table(self, scores: Sequence[tuple[Path, int, MetricScore]]) -> None:
        """One row per score: the system if there are several, the metric, its value, its signature."""
        has_several_systems = len({path for path, _, _ in scores}) > 1
        rows = []
        for path, _, score in scores:
            row = [str(path)] if has_several_systems else []
            row += [score.label, self._to_text(score)]
            row += [score.details] if console.is_verbose() else []
            rows.append([*row, score.signature])
        for line in columns(rows):
            console.write_line(line)

    def _to_text(self, score: MetricScore) -> str:
        return score.text(1 if self.width is None else self.width)

    def _to_json(self, score: MetricScore, place: dict[str, object]) -> str:
        interval = score.interval
        fields = {
            **place,
            "num_references": self.num_references,
            "metric": score.name,
            "name": score.label,
            "score": self._round(score.value),
            "confidence_mean": None if interval is None else self._round(interval.mean),
            "confidence_half_width": None if interval is None else self._round(interval.half_width),
            "p_value": score.p_value,
            "verbose_score": score.details,
            "signature": score.signature,
        }
        return dumps(fields, ensure_ascii=False)

    def _round(self, value: float) -> float:
        return value if self.width is None else float(f"{value:.{self.width}f}")
