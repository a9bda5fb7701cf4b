"""Learn a vocabulary from lines of text.

The same text gives the same file, byte for byte, in every process and with any number of threads: what is learned
depends on the counts of words alone, they are taken in sorted order, and every choice between equals is settled.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable
from itertools import chain, repeat

import tokenizers
from tokenizers import models, trainers

from tokenizer.config import Kind, TokenizerConfig, covered_characters, minimum_vocabulary_size
from tokenizer.counting import count_characters, count_words
from tokenizer.errors import TokenizerConfigError
from tokenizer.file_format import write_tokenizer
from tokenizer.pipeline import byte_pieces
from tokenizer.special_tokens import SPECIAL_TOKENS
from tokenizer.tokenizer import Tokenizer
from tokenizer.vocabulary import Vocabulary

__all__ = ["train_tokenizer"]

# A pair that occurs once is no pattern: merging it would learn single words by heart (subword-nmt's default, too).
MIN_PAIR_COUNT = 2


def train_tokenizer(
    lines: Iterable[str], config: TokenizerConfig, progress: Callable[[int], None] | None = None
) -> Tokenizer:
    """Learn a vocabulary.

    Args:
        lines: the text, read once; for a joint vocabulary the lines of both sides, one after the other.
        config: what is asked of the vocabulary.
        progress: is told how many lines were read since it was last called.

    Returns:
        a tokenizer; its `vocabulary_size` is smaller than the one asked for if the text has no more to learn.

    Raises:
        TokenizerConfigError: the vocabulary asked for has no room for the characters of the text.
        TokenizerDataError: there is no text.
    """
    counts = count_words(lines, config, progress)
    characters = counts if config.kind == "char" else count_characters(counts)
    _require_room(config, characters)
    alphabet = covered_characters(config.kind, characters)
    vocabulary = _learn(config, counts, alphabet)
    return Tokenizer.from_json(write_tokenizer(config, vocabulary), "the trained tokenizer")


def _learn(config: TokenizerConfig, counts: Counter[str], alphabet: list[str]) -> Vocabulary:
    match config.kind:
        case "bpe" | "byte-bpe":
            return _learn_merges(config, counts, alphabet)
        case "wordpiece":  # the pieces that BPE finds, without its merges: the longest that fits is taken
            return Vocabulary(pieces=_learn_merges(config, counts, alphabet).pieces)
        case "unigram":
            from tokenizer.unigram import learn_pieces

            scored = learn_pieces(counts, config.vocabulary_size - len(SPECIAL_TOKENS))
            return Vocabulary(
                pieces=[*SPECIAL_TOKENS, *(piece for piece, _ in scored)],
                scores=[*repeat(0.0, len(SPECIAL_TOKENS)), *(score for _, score in scored)],
            )
        case "char" | "word":
            most_frequent = sorted(counts, key=lambda piece: (-counts[piece], piece))
            return Vocabulary(pieces=[*SPECIAL_TOKENS, *most_frequent][: config.vocabulary_size])
        case "imported":
            raise TokenizerConfigError("kind imported is not learned; `transduce import` makes such tokenizers")


def _learn_merges(config: TokenizerConfig, counts: Counter[str], alphabet: list[str]) -> Vocabulary:
    """Learn byte-pair merges with the library's trainer, which settles ties by the ids of a pair, smaller first."""
    trainer = trainers.BpeTrainer(
        vocab_size=config.vocabulary_size,
        min_frequency=MIN_PAIR_COUNT,
        special_tokens=[*SPECIAL_TOKENS, *byte_pieces(config.kind)],  # the pieces that come first
        show_progress=False,
    )
    learner = tokenizers.Tokenizer(models.BPE())
    learner.train_from_iterator(_repeat(_spellable(counts, alphabet, config.kind)), trainer)
    model = json.loads(learner.to_str())["model"]
    pieces = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return Vocabulary(pieces=pieces, merges=[(left, right) for left, right in model["merges"]])


def _spellable(counts: Counter[str], alphabet: list[str], kind: Kind) -> Counter[str]:
    """Cut words at the characters that are left to their bytes, so that nothing is learned across them."""
    if kind != "bpe":
        return counts
    spelled = re.compile(f"[{re.escape(''.join(alphabet))}]+")
    parts: Counter[str] = Counter()
    for word, count in counts.items():
        for part in spelled.findall(word):
            parts[part] += count
    return parts


def _repeat(counts: Counter[str]) -> Iterable[str]:
    """Each word as often as it was counted: the trainer takes text only, and counts it again."""
    return chain.from_iterable(repeat(word, counts[word]) for word in sorted(counts))


def _require_room(config: TokenizerConfig, characters: Counter[str]) -> None:
    minimum = minimum_vocabulary_size(config.kind, characters)
    if config.vocabulary_size >= minimum:
        return
    num_bytes = len(byte_pieces(config.kind))
    num_characters = minimum - len(SPECIAL_TOKENS) - num_bytes
    bytes_too = f", {num_bytes} bytes" if num_bytes else ""
    raise TokenizerConfigError(
        f"vocabulary_size ({config.vocabulary_size}) is too small: {config.kind} needs {minimum} or more for this text "
        f"({len(SPECIAL_TOKENS)} special tokens{bytes_too}, {num_characters} characters); "
        "ask for more, or for byte-bpe, which needs no entry per character"
    )
