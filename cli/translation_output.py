"""What `translate` says at the end: what went wrong on the way, and how fast it went."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cli import console

if TYPE_CHECKING:
    from transformer_core.decoding.translation import Translation

__all__ = ["LineNumbers", "Tally", "warn_of_halvings", "warn_of_input"]

NAMED_LINES = 5  # how many line numbers a warning lists


@dataclass(kw_only=True)
class LineNumbers:
    """Lines to which something happened."""

    count: int = 0
    first: list[int] = field(default_factory=list)  # the numbers of the first few

    def add(self, number: int) -> None:
        """Count a line."""
        self.count += 1
        if len(self.first) < NAMED_LINES:
            self.first.append(number)

    def merge(self, later: "LineNumbers") -> None:
        """Count lines that come behind these."""
        self.count += later.count
        self.first = (self.first + later.first)[:NAMED_LINES]

    def __str__(self) -> str:
        if self.count == 1:
            return f"line {self.first[0]}"
        numbers = ", ".join(map(str, self.first)) + (", ..." if self.count > len(self.first) else "")
        return f"{self.count:,} lines ({numbers})"


@dataclass(kw_only=True)
class Tally:
    """Counts lines and tokens, and remembers what the user should know of."""

    num_lines: int = 0
    num_tokens: int = 0
    num_blank: int = 0
    num_mended: int = 0  # lines with bytes that were not UTF-8
    num_halvings: int = 0  # how often memory ran out
    split: LineNumbers = field(default_factory=LineNumbers)
    source_cut: LineNumbers = field(default_factory=LineNumbers)
    truncated: LineNumbers = field(default_factory=LineNumbers)
    unmet: LineNumbers = field(default_factory=LineNumbers)
    started_at: float = field(default_factory=time.monotonic)

    def add(self, translations: "Sequence[Translation]", first: int) -> None:
        """Count translations; first: number of the first line in the whole input, from 1."""
        self.num_lines += len(translations)
        for number, translation in enumerate(translations, first):
            self.num_tokens += sum(found.num_tokens for found in translation.hypotheses)
            self.num_blank += translation.is_blank
            if translation.is_split:
                self.split.add(number)
            if translation.is_source_cut:
                self.source_cut.add(number)
            if translation.hypotheses[0].is_truncated:
                self.truncated.add(number)
            if translation.unmet:
                self.unmet.add(number)

    def merge(self, later: "Tally") -> None:
        """Count what was counted of lines behind these."""
        for name in ("num_lines", "num_tokens", "num_blank", "num_mended", "num_halvings"):
            setattr(self, name, getattr(self, name) + getattr(later, name))
        for name in ("split", "source_cut", "truncated", "unmet"):
            getattr(self, name).merge(getattr(later, name))

    def report(self, circumstances: str) -> None:
        """Warn of what happened, and with -v say how fast it went.

        Args:
            circumstances: how it was translated.
        """
        warn_of_input(self.num_mended)
        if self.split.count:
            console.warn(f"{self.split} too long for the model: translated in pieces and joined")
        if self.source_cut.count:
            console.warn(f"{self.source_cut} too long for the model: translated without the end")
        if self.truncated.count:
            console.warn(f"{self.truncated} cut off at the length limit: --max-length-ratio and --max-length move it")
        if self.unmet.count:
            console.warn(
                f"{self.unmet} translated without a constraint, or with what was to be avoided; --format jsonl says "
                "what it is, and a larger --beam-size may help"
            )
        warn_of_halvings(self.num_halvings)
        seconds = time.monotonic() - self.started_at
        console.detail(
            f"{self.num_lines:,} lines ({self.num_blank:,} blank), {self.num_tokens:,} tokens in {seconds:.1f} s: "
            f"{self.num_tokens / max(seconds, 1e-9):,.0f} tokens/s ({circumstances})"
        )


def warn_of_input(num_invalid: int, name: str | None = None) -> None:
    """Warn of lines with bytes that were not UTF-8; name: of the file, where there are several."""
    if num_invalid:
        where = "" if name is None else f"{name}: "
        lines = _counted(num_invalid, "line")
        console.warn(f"{where}{lines} with bytes that are not UTF-8: U+FFFD stands in their place")


def warn_of_halvings(num_halvings: int) -> None:
    """Warn of memory that ran out."""
    if num_halvings:
        console.warn(f"memory ran out {_counted(num_halvings, 'time')}: batches were halved; see --batch-size")


def _counted(count: int, noun: str) -> str:
    return f"{count:,} {noun}" + ("" if count == 1 else "s")
