"""Which vocabularies a run gets: those that are given, or what suits its text, learned from it."""

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from tokenizer import Tokenizer, TokenizerDataError, train_tokenizer
from transformer_core.data.records import RecordReader
from transformer_core.errors import ConfigError, DataError
from transformer_core.experiments.progress import Progress
from transformer_core.experiments.recipe import MOST_SYMBOLS, SideFacts, choose_vocabularies
from transformer_core.experiments.text_config import DataConfig, LearnedKind
from transformer_core.experiments.texts import TextConfig, read_rows, training_texts
from transformer_core.model_files import tokenizer_paths

__all__ = ["Tokenizers", "choose_tokenizers", "refuse_learning", "tokenizer_files"]

Tokenizers = tuple[Tokenizer, Tokenizer]  # of the source and of the target; one object twice when joint


def choose_tokenizers(data: TextConfig, progress: Progress, say: Callable[[str], None]) -> Tokenizers:
    """Load the tokenizers that are given, or learn from the training text what suits it: a joint one, or two.

    Raises:
        ConfigError: one is given, and something is asked of one that is learned.
        TokenizerError: a file is none, or cannot have such a vocabulary.
        DataError: the text cannot be read, or cannot fill the vocabulary.
    """
    files = tokenizer_files(data)
    if files:
        refuse_learning(data, "a tokenizer that is given")
        source = Tokenizer.load(files[0]).with_tags(data.tags)
        return source, source if len(files) == 1 else Tokenizer.load(files[1])
    kind = _asked_kind(data)
    follows_from_text = kind == "auto" or data.vocabulary_size is None
    facts = [_facts(data, side, progress) for side in range(len(data.training_columns)) if follows_from_text]
    if data.vocabulary_size is None and len({of_side.num_lines for of_side in facts}) > 1:
        for text in training_texts(data):
            for _ in read_rows(text, data):  # says which file is the shorter one
                pass
    configs = choose_vocabularies(facts, kind, data.vocabulary_size)
    with progress("learning the vocabulary", unit="lines") as advance:
        texts = [_lines(data)] if len(configs) == 1 else [_lines_of(data, side) for side in range(len(configs))]
        try:
            learned = [train_tokenizer(text, config, advance) for text, config in zip(texts, configs, strict=True)]
        except TokenizerDataError as error:
            names = ", ".join(str(path) for column in data.training_columns for path in column)
            raise DataError(f"{names}: {error}") from None
    source, target = learned[0].with_tags(data.tags), learned[-1]
    if len(learned) == 1:
        say(f"learned a joint {_description(source)} from the training text")
        return source, source
    say(f"learned a {_description(source)} from the source text, a {_description(target)} from the target text")
    return source, target


def refuse_learning(data: TextConfig, brought_by: str) -> None:
    """See that nothing is asked of a vocabulary that is not learned.

    Raises:
        ConfigError: something is.
    """
    for option, is_asked in (
        ("--vocab-size", data.vocabulary_size is not None),
        ("--tokenizer-kind", data.tokenizer_kind != "auto"),
    ):
        if is_asked:
            raise ConfigError(f"{option} is of a vocabulary that is learned, and does not go with {brought_by}")


def _description(tokenizer: Tokenizer) -> str:
    return f"{tokenizer.config.kind} vocabulary of {tokenizer.vocabulary_size} entries"


def _asked_kind(data: TextConfig) -> LearnedKind:
    """The kind of vocabulary that the options ask for, be it by the cuts that only one kind has."""
    if data.tokenizer_kind == "auto" and isinstance(data, DataConfig):
        if data.bpe_dropout:
            return "bpe"
        if data.unigram_alpha is not None:
            return "unigram"
    return data.tokenizer_kind


def _facts(data: TextConfig, side: int, progress: Progress) -> SideFacts:
    """Look at a side of the training text."""
    word_counts, characters = Counter[str](), set[str]()
    num_lines, num_words, num_characters = 0, 0, 0
    with progress("counting words", unit="lines") as advance:
        for line in _lines_of(data, side):
            words = line.split()
            num_lines, num_words, num_characters = num_lines + 1, num_words + len(words), num_characters + len(line)
            characters.update(line)
            if len(word_counts) <= MOST_SYMBOLS:  # symbols are no more than that
                word_counts.update(words)
            elif data.vocabulary_size is not None:  # and nothing else is asked
                break
            advance(1)
    return SideFacts(
        num_lines=num_lines,
        num_words=num_words,
        num_characters=num_characters,
        characters=frozenset(characters),
        word_counts=word_counts,
    )


def _lines(data: TextConfig) -> Iterator[str]:
    """Read the training text, one side after the other."""
    for side in range(len(data.training_columns)):
        yield from _lines_of(data, side)


def _lines_of(data: TextConfig, side: int) -> Iterator[str]:
    """Read a side of the training text."""
    with RecordReader(data.training_columns[side], data.form.only(side), errors=data.errors) as reader:
        for record in reader:
            yield record.text


def tokenizer_files(data: TextConfig) -> tuple[Path, ...]:
    """Give the files of the tokenizers that are given: one if it is joint, two or none."""
    if data.prepared is not None:
        return tuple(path for path in tokenizer_paths(data.prepared) if path is not None)
    if isinstance(data, DataConfig) and data.source_tokenizer is not None and data.target_tokenizer is not None:
        return data.source_tokenizer, data.target_tokenizer
    return () if data.tokenizer is None else (data.tokenizer,)
