"""Count the words of a text while it streams by: all that training needs of it.

Memory grows with the number of different words, not with the text, and has a limit: when there are too many, those
that are rarest so far are forgotten (lossy counting, Manku and Motwani 2002). Sorted, the counts are also what makes
training repeatable: the library's own counts come out in another order in every process.
"""

from collections import Counter
from collections.abc import Callable, Iterable

from tokenizer.config import TokenizerConfig
from tokenizer.errors import TokenizerDataError
from tokenizer.pipeline import build_normalizer, build_pre_tokenizer

__all__ = ["count_characters", "count_words"]

REPORT_EVERY_LINES = 1000

# Some 300 MB. A text of a billion words has about so many: what is rarer than the rest of them is in no vocabulary.
MAX_DIFFERENT_WORDS = 2_000_000


def count_words(
    lines: Iterable[str], config: TokenizerConfig, progress: Callable[[int], None] | None = None
) -> Counter[str]:
    """Count the words of `lines`, as the model will see them; for `char` the characters.

    Args:
        lines: text, each line a unit of its own.
        config: says how lines are normalised and cut.
        progress: is told how many lines were read since it was last called.

    Raises:
        TokenizerDataError: there is no text, or a line is not made of characters.
    """
    counts: Counter[str] = Counter()
    forgotten = 0  # occurrences that a forgotten word may have had
    normalizer, pre_tokenizer = build_normalizer(config), build_pre_tokenizer(config.kind)
    num_lines, is_blank = 0, True
    for num_lines, line in enumerate(lines, start=1):
        try:
            text = normalizer.normalize_str(line)
        except (TypeError, ValueError):
            raise TokenizerDataError(
                f"line {num_lines} holds half of a surrogate pair, which is no character"
            ) from None
        is_blank = is_blank and not text.strip(" ")
        counts.update(text if pre_tokenizer is None else [word for word, _ in pre_tokenizer.pre_tokenize_str(text)])
        while len(counts) > MAX_DIFFERENT_WORDS:
            forgotten += 1
            counts = _forget(counts, forgotten, keeps_characters=config.kind != "word")
        if progress is not None and num_lines % REPORT_EVERY_LINES == 0:
            progress(REPORT_EVERY_LINES)
    if progress is not None:
        progress(num_lines % REPORT_EVERY_LINES)
    if is_blank:
        what = "every line is blank" if num_lines else "there are no lines"
        raise TokenizerDataError(f"there is no text to learn a vocabulary from: {what}")
    return counts


def _forget(counts: Counter[str], most: int, *, keeps_characters: bool) -> Counter[str]:
    """Leave out the words that were counted so often at most, but no character that occurs in them alone."""
    kept = Counter({word: count for word, count in counts.items() if count > most or len(word) == 1})
    if keeps_characters:
        lost = {character for word in counts for character in word}.difference(*kept)
        kept.update(dict.fromkeys(sorted(lost), 1))
    return kept


def count_characters(word_counts: Counter[str]) -> Counter[str]:
    """Count the characters of counted words."""
    counts: Counter[str] = Counter()
    for word, count in word_counts.items():
        for character in word:
            counts[character] += count
    return counts
