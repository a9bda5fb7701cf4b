"""What `transduce tokenizer info` says of a tokenizer, and of what it does to a text."""

from collections.abc import Iterator
from dataclasses import asdict
from json import dumps
from pathlib import Path
from typing import Any

from tokenizer import ROUND_TRIP, SPECIAL_TOKENS, RoundTripExample, RoundTripReport, Tokenizer

__all__ = ["to_json", "to_text"]

SHOWN_CHARACTERS = 40  # of a difference between two lines, at most
CONTEXT_CHARACTERS = 10  # on each side of it


def to_json(file: Path, tokenizer: Tokenizer, text: Path | None, report: RoundTripReport | None) -> str:
    """Everything as one JSON object; `text` is the file that `report` is about."""
    facts = _describe(file, tokenizer)
    if report is not None:
        rates = {"tokens_per_line": report.tokens_per_line, "tokens_per_word": report.tokens_per_word}
        facts["check"] = {"text": str(text), **asdict(report), **rates}
    return dumps(facts, ensure_ascii=False)


def to_text(file: Path, tokenizer: Tokenizer, text: Path | None, report: RoundTripReport | None) -> str:
    """Everything as lines for the eye."""
    lines = [f"{name.replace('_', ' '):<16}{_plain(value)}" for name, value in _describe(file, tokenizer).items()]
    if report is not None:
        lines += ["", f"{'text':<16}{text}", *_report_lines(report)]
    return "".join(f"{line}\n" for line in lines)


def _describe(file: Path, tokenizer: Tokenizer) -> dict[str, Any]:
    """What info says of a file, by the names that JSON has."""
    return {
        "file": str(file),
        "kind": tokenizer.config.kind,
        "vocabulary_size": tokenizer.vocabulary_size,
        "normalization": tokenizer.config.normalization,
        "lowercase": tokenizer.config.lowercase,
        "special_tokens": {token: index for index, token in enumerate(SPECIAL_TOKENS)},
        **({"tags": tokenizer.tags} if tokenizer.tags else {}),
        "round_trip": ROUND_TRIP[tokenizer.config.kind],
        "sha256": tokenizer.sha256,
    }


def _plain(value: object) -> str:
    """A value for the eye."""
    match value:
        case bool():
            return "yes" if value else "no"
        case dict():
            return ", ".join(f"{key} {item}" for key, item in value.items())
        case _:
            return str(value)


def _report_lines(report: RoundTripReport) -> Iterator[str]:
    """What --check found."""
    rows = {
        "lines": f"{report.num_lines:,}, of which {report.num_blank:,} blank",
        "words": f"{report.num_words:,}",
        "tokens": f"{report.num_tokens:,}: {report.tokens_per_line:.1f} per line (at most {report.max_tokens:,}), "
        f"{report.tokens_per_word:.2f} per word",
        "unknown tokens": f"{report.num_unknown:,}{_share(report.num_unknown, report.num_tokens)}, "
        f"in {report.num_lines_with_unknown:,} lines",
        "not exact": f"{report.num_inexact:,} lines{_share(report.num_inexact, report.num_lines)}",
    }
    yield from (f"{name:<16}{value}" for name, value in rows.items())
    yield from (f"  line {example.line_number}: {_difference(example)}" for example in report.examples)
    if report.num_inexact > len(report.examples):
        yield f"  and {report.num_inexact - len(report.examples):,} more lines"


def _share(count: int, total: int) -> str:
    return f" ({100 * count / total:.2f} %)" if count else ""


def _difference(example: RoundTripExample) -> str:
    """Show where two lines part and meet again, with a little around it, unprintable characters escaped."""
    before, after = example.normalized, example.decoded
    start = _shared_length(before, after)
    end = _shared_length(before[start:][::-1], after[start:][::-1])
    first, num_left_out = max(start - CONTEXT_CHARACTERS, 0), max(end - CONTEXT_CHARACTERS, 0)
    return " became ".join(_excerpt(text, first, len(text) - num_left_out) for text in (before, after))


def _shared_length(left: str, right: str) -> int:
    """How many characters two texts begin with in common."""
    shortest = min(len(left), len(right))
    return next((index for index in range(shortest) if left[index] != right[index]), shortest)


def _excerpt(text: str, first: int, last: int) -> str:
    last = min(last, first + SHOWN_CHARACTERS)
    return f"{'…' if first else ''}{text[first:last]!r}{'…' if last < len(text) else ''}"
