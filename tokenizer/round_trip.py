"""Check what a tokenizer gives back of a text, and how many tokens it makes of it."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

from tokenizer.tokenizer import Tokenizer

__all__ = ["RoundTripExample", "RoundTripReport", "check_round_trip"]

BATCH_LINES = 1000


@dataclass(frozen=True, kw_only=True)
class RoundTripExample:
    """A line that did not come back exactly."""

    line_number: int  # counted from 1
    normalized: str  # what should have come back
    decoded: str  # what did
    num_unknown: int  # unknown tokens in it


@dataclass(kw_only=True)
class RoundTripReport:
    """The sums over a text."""

    num_lines: int = 0  # lines read
    num_blank: int = 0  # of these, lines without a token
    num_words: int = 0  # stretches of text between white space
    num_tokens: int = 0  # tokens, unknown ones included
    max_tokens: int = 0  # tokens of the longest line
    num_unknown: int = 0  # unknown tokens
    num_lines_with_unknown: int = 0  # lines that have at least one
    num_inexact: int = 0  # lines for which decode(encode(line)) is not normalize(line)
    examples: list[RoundTripExample] = field(default_factory=list)  # the first of them

    @property
    def tokens_per_word(self) -> float:
        """Mean number of tokens that a word is cut into; 0 where there are none."""
        return self.num_tokens / self.num_words if self.num_words else 0.0

    @property
    def tokens_per_line(self) -> float:
        """Mean number of tokens in a line; 0 where there are none."""
        return self.num_tokens / self.num_lines if self.num_lines else 0.0


def check_round_trip(tokenizer: Tokenizer, lines: Iterable[str], *, max_examples: int = 5) -> RoundTripReport:
    """Encode and decode every line, and count what changed; holds no more than a batch of lines.

    Raises:
        TokenizerDataError: a line holds half of a surrogate pair, which is no character.
    """
    report = RoundTripReport()
    remaining = iter(lines)
    while batch := list(islice(remaining, BATCH_LINES)):
        rows = tokenizer.encode_batch(batch)
        for line, ids, decoded in zip(batch, rows, tokenizer.decode_batch(rows), strict=True):
            num_unknown = ids.count(tokenizer.unk_id)
            report.num_lines += 1
            report.num_blank += not ids
            report.num_words += len(line.split())
            report.num_tokens += len(ids)
            report.max_tokens = max(report.max_tokens, len(ids))
            report.num_unknown += num_unknown
            report.num_lines_with_unknown += num_unknown > 0
            normalized = tokenizer.normalize(line)
            if decoded != normalized:
                report.num_inexact += 1
                if len(report.examples) < max_examples:
                    example = RoundTripExample(
                        line_number=report.num_lines, normalized=normalized, decoded=decoded, num_unknown=num_unknown
                    )
                    report.examples.append(example)
    return report
