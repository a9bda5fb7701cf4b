"""What follows from the data where nobody says otherwise: sizes, budget and regularisation.

Each rule is one line of reason and one of arithmetic. They were chosen on corpora of 8 thousand to 90 thousand pairs
(benchmarks/quality.py); for larger ones they follow what the field does. Imports no torch.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from unicodedata import normalize

from tokenizer import TokenizerConfig
from tokenizer.config import DEFAULT_KIND
from tokenizer.special_tokens import SPECIAL_TOKENS
from transformer_core.config import ModelConfig, Positions
from transformer_core.data.shards import CorpusStatistics
from transformer_core.experiments.config import AUTO, ArchitectureConfig
from transformer_core.experiments.text_config import LearnedKind
from transformer_core.training.config import BatchType, TrainingConfig
from transformer_core.training.schedule import num_updates

__all__ = [
    "MOST_HELD_BACK",
    "MOST_SYMBOLS",
    "PRESETS_BY_PAIRS",
    "SideFacts",
    "choose_vocabularies",
    "complete_architecture",
    "complete_training",
    "default_batch_size",
    "default_dropout",
    "default_vocabulary_size",
    "held_back_rows",
]

MOST_SYMBOLS = 256  # different words: as many entries as bpe needs for bytes alone
RARE, RARE_SHARE = 3, 0.001  # of all words, at most so many are words that occur less often than this
SPELLING_PIECES = 300  # of more than a letter, where lines are single words
SPELLED_WORDS, SPELLED_LETTERS = 1.2, 16  # of a line, the mean at most, where lines are single words
LARGE_BATCH = 4_096  # tokens
BATCH_OF_SENTENCES = 64
NUM_EPOCHS = 40  # passes over a small corpus after which more of them bring little
MIN_STEPS, MAX_STEPS = 2_000, 100_000
MOST_HELD_BACK = 1_000  # pairs, or lines, to validate with
NUM_VALIDATIONS = 40  # in a whole run
MAX_STEPS_BETWEEN_VALIDATIONS = 2_000
MUON_EMBEDDING_FACTOR = 2.0  # with Muon, embeddings learn better at a higher rate (docs/training.md)
PRESETS_BY_PAIRS = {"tiny": 200_000, "small": 2_000_000, "base": math.inf}  # for fewer pairs than these
# Target tokens for each element of a matrix of d_model rows and columns; tiny: half a million, 82 thousand.
FEW_TOKENS, VERY_FEW_TOKENS = 30, 5
WIDE = 128  # d_model; of narrower models more dropout leaves too little
FINE_TUNING_SHARE = 0.2  # of the learning rate, when training starts from a trained model
PRETRAINING_DROPOUT = 0.1  # corruption, another one every time, keeps a model from learning its lines by heart


@dataclass(frozen=True, kw_only=True)
class SideFacts:
    """What the text of a side is like."""

    num_lines: int = 0
    num_words: int = 0
    num_characters: int = 0
    characters: frozenset[str] = frozenset()
    word_counts: Mapping[str, int] = field(default_factory=dict)  # if there are more than MOST_SYMBOLS, of some

    @property
    def are_symbols(self) -> bool:
        """Whether the words are symbols: commands, sounds, letters with spaces between them.

        They are few, and hardly another is to be met later. Such a text is cut at its spaces: pieces of symbols only
        make it longer.
        """
        rare = sum(count for count in self.word_counts.values() if count < RARE)
        return 0 < len(self.word_counts) <= MOST_SYMBOLS and rare <= RARE_SHARE * self.num_words

    @property
    def is_spelling(self) -> bool:
        """Whether the lines are single words, by their sums; a sentence without spaces is longer."""
        by_words = self.num_words <= SPELLED_WORDS * self.num_lines
        return by_words and self.num_characters <= SPELLED_LETTERS * self.num_lines

    def __add__(self, other: "SideFacts") -> "SideFacts":
        return SideFacts(
            num_lines=self.num_lines + other.num_lines,
            num_words=self.num_words + other.num_words,
            num_characters=self.num_characters + other.num_characters,
            characters=self.characters | other.characters,
            word_counts=Counter(self.word_counts) + Counter(other.word_counts),
        )


def choose_vocabularies(
    sides: Sequence[SideFacts], kind: LearnedKind = "auto", size: int | None = None
) -> tuple[TokenizerConfig, ...]:
    """Choose one vocabulary for all sides, or one for each: where one is of symbols, and they are not all together.

    Args:
        sides: of the training text: source and target, or lines of raw text.
        kind: what is asked for; auto: words, if they are symbols, else pieces of them.
        size: entries, if they are asked for; all sides share them then.

    Raises:
        TokenizerConfigError: there are too few entries for this kind.
    """
    text = sum(sides, SideFacts())
    if kind == "auto":
        has_room = size is None or len(SPECIAL_TOKENS) + len(text.word_counts) <= size
        if size is None and not text.are_symbols and any(side.are_symbols for side in sides):
            source, target = sides
            return _own_vocabulary(source, is_source=True), _own_vocabulary(target, is_source=False)
        kind = "word" if has_room and text.are_symbols else DEFAULT_KIND
    # entries that are words are as many as there are words, whatever their letters
    spells_words = kind != "word" and any(side.is_spelling for side in sides)
    if size is None:
        size = default_vocabulary_size(text.num_words, len(text.characters), is_spelling=spells_words)
    return (TokenizerConfig(kind=kind, vocabulary_size=size),)


def _own_vocabulary(side: SideFacts, *, is_source: bool) -> TokenizerConfig:
    """Choose the vocabulary that one side has for itself."""
    if side.are_symbols:
        return TokenizerConfig(kind="word", vocabulary_size=len(SPECIAL_TOKENS) + MOST_SYMBOLS)
    letters = {letter for character in side.characters for letter in normalize("NFD", character)}
    # what a syllable of Korean is spelled with says more than the syllable; a target is to be written as it was
    falls_apart = is_source and side.is_spelling and 2 * len(letters) <= len(side.characters)
    num_characters = len(letters if falls_apart else side.characters)
    return TokenizerConfig(
        vocabulary_size=default_vocabulary_size(side.num_words, num_characters, is_spelling=side.is_spelling),
        normalization="nfd" if falls_apart else "nfc",
    )


def default_vocabulary_size(num_words: int, num_characters: int, *, is_spelling: bool = False) -> int:
    """Choose the size of a vocabulary: it grows with the square root of the words, as the types of a text do.

    29 thousand pairs of sentences (700 thousand words) get 10 thousand entries, 2 million pairs the most, 32 thousand.
    A text of many different characters, Chinese for example, gets room for them beside what is made of them.

    Where the lines of a side are single words (`is_spelling`), words are what is to be understood by their letters, and
    pieces of many letters would be learned by heart: there is room for letters, for the sounds that a few of them make
    together, and for little else.
    """
    if is_spelling:
        return SPELLING_PIECES + num_characters
    by_words = max(1_000, min(32_000, 100 * round(math.sqrt(num_words) * 12 / 100)))
    return max(by_words, 500 + 2 * num_characters)


def held_back_rows(num_rows: int) -> int:
    """Choose how many pairs, or lines, to validate with when none are given: a twentieth, at most a thousand."""
    return max(1, min(MOST_HELD_BACK, num_rows // 20))


def default_dropout(statistics: CorpusStatistics, d_model: int, *, is_pretraining: bool) -> float:
    """Choose the dropout for a width of the encoder."""
    if is_pretraining:
        return PRETRAINING_DROPOUT
    # the fewer tokens a model has for its weights, the more it must be kept from learning them by heart
    tokens = statistics.num_target_tokens / d_model**2
    if tokens < VERY_FEW_TOKENS and d_model >= WIDE:
        return 0.4
    return 0.3 if tokens < FEW_TOKENS else 0.1


def default_batch_size(statistics: CorpusStatistics, batch_type: BatchType) -> int:
    """Choose the size of a batch: half of a large one where an epoch has so few of those that MIN_STEPS is the budget.

    As many updates then take half of the time, and words of few letters are learned no worse (docs/training.md).
    """
    if batch_type == "sentences":
        return BATCH_OF_SENTENCES
    num_tokens = max(statistics.num_source_tokens, statistics.num_target_tokens)
    return LARGE_BATCH // 2 if num_tokens * NUM_EPOCHS < MIN_STEPS * LARGE_BATCH else LARGE_BATCH


def default_positions(config: ArchitectureConfig) -> Positions:
    """Choose the positions: with turned queries and keys attention learns faster and reaches more (docs/training.md).

    Other layers have no queries to turn, an odd d_head has no pairs, and who names a form of sinusoids wants them.
    """
    can_turn = all(stack.mixer == "attention" and stack.d_head % 2 == 0 for stack in config.stacks())
    return "rotary" if can_turn and config.sinusoid_form == ModelConfig.sinusoid_form else "sinusoidal"


def complete_architecture(
    config: ArchitectureConfig, statistics: CorpusStatistics, *, is_pretraining: bool = False
) -> ArchitectureConfig:
    """Choose the preset and the dropout that are left to the data, and the positions that suit the layers.

    Raises:
        ConfigError: the sizes do not fit together.
    """
    arch = config.arch
    if arch == AUTO:  # a model larger than its data learns them by heart
        arch = next(name for name, num_pairs in PRESETS_BY_PAIRS.items() if statistics.num_pairs < num_pairs)
    config = replace(config, arch=arch)
    if config.dropout is None:
        encoder, _ = config.stacks()
        dropout = default_dropout(statistics, encoder.d_model, is_pretraining=is_pretraining)
        config = replace(config, dropout=dropout)
    if config.positions is None:
        config = replace(config, positions=default_positions(config))
    return config


def complete_training(
    config: TrainingConfig, *, num_batches: int, num_processes: int = 1, d_model: int, is_fine_tuning: bool
) -> TrainingConfig:
    """Choose the budget, the optimizer, the rates and their schedule where they are not given.

    Args:
        config: as it was asked for.
        num_batches: micro-batches of an epoch.
        num_processes: that share them.
        d_model: width of the decoder.
        is_fine_tuning: a whole trained model goes on; not a fresh decoder, nor adapters.
    """
    max_steps = num_updates(
        config.max_epochs or NUM_EPOCHS, num_batches, config.accumulate * num_processes, config.batch_warmup_steps
    )
    if config.max_steps is not None:  # whichever comes first
        max_steps = config.max_steps if config.max_epochs is None else min(config.max_steps, max_steps)
    elif config.max_epochs is None:
        max_steps = max(MIN_STEPS, min(MAX_STEPS, max_steps))
    # the wider the model, the smaller the steps it can take: 4e-3 for 128, 1e-3 for 512
    learning_rate = 0.5 / d_model * (FINE_TUNING_SHARE if is_fine_tuning else 1.0)
    # Muon learns in fewer updates (docs/training.md), but moves a model that goes on too far (docs/fine-tuning.md)
    optimizer = config.optimizer
    if optimizer == "auto":
        optimizer = "adamw" if is_fine_tuning else "muon"
    # a rate that stays up until late takes a fresh model further (docs/training.md)
    lr_schedule = config.lr_schedule
    if lr_schedule == "auto":
        lr_schedule = "cosine" if is_fine_tuning else "wsd"
    return replace(config, optimizer=optimizer, lr_schedule=lr_schedule).completed(
        max_steps=max_steps,
        learning_rate=learning_rate,
        embedding_lr_factor=MUON_EMBEDDING_FACTOR if optimizer == "muon" else 1.0,
        warmup_steps=min(4_000, max_steps // 10),
        valid_every=max(min(25, max_steps), min(MAX_STEPS_BETWEEN_VALIDATIONS, max_steps // NUM_VALIDATIONS)),
    )
