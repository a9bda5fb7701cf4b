"""What `translate` writes for a line: its translation as text, a row of TSV, a JSON object, or Moses' n-best list."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from transformer_core.data.json_lines import join_object
from transformer_core.data.records import Record
from transformer_core.data.tsv import join_row
from transformer_core.errors import ConfigError

if TYPE_CHECKING:
    from transformer_core.decoding.translation import TargetText, Translation

__all__ = ["TranslationForm", "TranslationFormat"]

TranslationFormat = Literal["text", "tsv", "jsonl", "moses"]

# Keys that say something of a translation: of one that was read they would be untrue of ours.
OF_TRANSLATION = frozenset(
    ("tokens", "token_log_probabilities", "translations", "scores", "log_probabilities", "alignments", "unmet")
)
DIGITS = 6  # of a log-probability after the point: finer than any two runs differ


@dataclass(frozen=True, kw_only=True)
class TranslationForm:
    """What a translation is written as."""

    format: TranslationFormat
    n_best: int = 1  # translations per line
    per_token: bool = False  # with every token and its log-probability
    column: int = 0  # of a row of TSV: the place of the text that was translated
    has_alignments: bool = False  # with the alignment of every translation
    chooses: bool = False  # of the n-best translations the first was chosen for what it is: text may give it alone

    def __post_init__(self) -> None:
        if self.chooses and self.n_best == 1:
            raise ConfigError("--mbr chooses among several translations: give --n-best 2 or more")
        if self.has_alignments and self.format == "text":
            raise ConfigError("--alignments needs --format tsv, jsonl or moses: text has no place for them")
        if self.format == "text" and self.n_best > 1 and not self.chooses:
            raise ConfigError(
                f"--n-best {self.n_best} needs --format tsv, jsonl or moses: text has one translation for each line"
            )

        if self.per_token and self.format != "jsonl":
            raise ConfigError("--per-token needs --format jsonl: no other has a place for tokens")

    @property
    def shows_scores(self) -> bool:
        """Whether there is a place for log-probabilities and scores."""
        return self.format != "text"

    def lines(self, translation: "Translation", record: Record, number: int) -> Iterator[str]:
        """Write a translation: as one line, without its end, or one for each hypothesis in Moses' form.

        Args:
            translation: what became of the record.
            record: what was translated.
            number: of the record in the whole input, from 1.
        """
        match self.format:
            case "text":
                yield translation.text
            case "tsv":
                yield join_row(self._cells(translation, record))
            case "jsonl":
                passed = {key: member for key, member in record.members.items() if key not in OF_TRANSLATION}
                yield join_object(passed, self._fields(translation, record))
            case "moses":
                for found in translation.hypotheses:
                    line = _moses_line(found, number - 1)
                    yield f"{line} ||| {_pharaoh(found)}" if self.has_alignments else line

    def _cells(self, translation: "Translation", record: Record) -> Iterator[str]:
        """The row that was read with the translation in the place of its text, and behind it the numbers."""
        cells = list(record.cells) or [""]
        cells[self.column] = translation.text
        yield from cells
        for rank, found in enumerate(translation.hypotheses):
            if rank > 0:
                yield found.text
            yield f"{found.score:.{DIGITS}f}"
            yield f"{found.log_probability:.{DIGITS}f}"
            if self.has_alignments:
                yield _pharaoh(found)

    def _fields(self, translation: "Translation", record: Record) -> dict[str, object]:
        fields: dict[str, object] = {"columns": record.cells} if record.cells else {}
        fields |= {
            "translation": translation.text,
            "score": round(translation.score, DIGITS),
            "log_probability": round(translation.log_probability, DIGITS),
            "truncated": translation.is_truncated,
        }
        if self.per_token:
            best = translation.hypotheses[0]
            fields["tokens"] = best.tokens
            fields["token_log_probabilities"] = [round(value, DIGITS) for value in best.token_log_probabilities]
        if self.n_best > 1:
            fields["translations"] = [found.text for found in translation.hypotheses]
            fields["scores"] = [round(found.score, DIGITS) for found in translation.hypotheses]
            fields["log_probabilities"] = [round(found.log_probability, DIGITS) for found in translation.hypotheses]
        if self.has_alignments:
            fields["alignments"] = [_pharaoh(found) for found in translation.hypotheses]
        if translation.unmet:
            fields["unmet"] = translation.unmet
        return fields


def _pharaoh(found: "TargetText") -> str:
    """Write an alignment as Pharaoh did: source and target words, counted from 0, with a hyphen between."""
    return " ".join(f"{source}-{target}" for source, target in found.alignment)


def _moses_line(found: "TargetText", number: int) -> str:
    """Write "number ||| text ||| features ||| score"; bars that would end the text have spaces put between them."""
    text = re.sub(r"\|{3,}", lambda bars: " ".join(bars.group()), found.text.replace("\n", " "))
    return f"{number} ||| {text} ||| log_probability= {found.log_probability:.{DIGITS}f} ||| {found.score:.{DIGITS}f}"
