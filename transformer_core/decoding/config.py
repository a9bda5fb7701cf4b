"""SearchConfig and BatchConfig: how a translation is looked for, and how lines are put together while it is.

Imports no torch, so that the command line can offer the defaults without loading it.
"""

import math
import reprlib
from dataclasses import dataclass
from typing import Literal, get_args

from transformer_core.errors import ConfigError
from transformer_core.evaluation.minimum_bayes_risk import Utility

__all__ = [
    "LENGTH_MARGIN",
    "MAX_HYPOTHESES",
    "MAX_LENGTH_PENALTY",
    "NOTHING_ASKED",
    "BatchConfig",
    "BatchType",
    "LengthPenaltyType",
    "LineGuide",
    "LongInput",
    "Precision",
    "SearchConfig",
    "TranslationConfig",
]

LengthPenaltyType = Literal["avg", "gnmt", "none"]
BatchType = Literal["tokens", "sentences"]
LongInput = Literal["split", "truncate", "error"]
Precision = Literal["auto", "fp32", "bf16", "fp16", "int8"]

# A translation may always be this many tokens longer than max_length_ratio allows: a ratio says little about one word.
LENGTH_MARGIN = 10
# Beyond these no search ends in time, in memory or in numbers that a float can hold.
MAX_HYPOTHESES = 1 << 13
MAX_LENGTH_PENALTY = 50
MAX_MIN_LENGTH = 10_000
DEFAULT_BATCH_SIZES: dict[BatchType, int] = {"tokens": 4096, "sentences": 64}


@dataclass(frozen=True, kw_only=True)
class SearchConfig:
    """Which hypotheses are looked for, and what ranks them."""

    beam_size: int = 5  # live hypotheses per sentence; 1 is greedy
    n_best: int = 1  # hypotheses to give per sentence: the best of a beam, or so many samples
    per_token: bool = False  # keep the log-probability of every token
    scores: bool = True  # compute log-probabilities and scores; greedy search finds the same without, and is faster
    length_penalty: float = 1.0  # the exponent of the length penalty
    length_penalty_type: LengthPenaltyType = "avg"  # score = log_probability / penalty, see `penalty`
    early_stopping: bool = False  # end a sentence when beam_size hypotheses have, though a live one might beat them
    max_length: int | None = None  # target tokens, the end token aside; None leaves it to max_length_ratio
    max_length_ratio: float = (
        3.0  # target tokens per source token, beyond LENGTH_MARGIN; training stores the data's own
    )
    min_length: int = 0  # target tokens before the end token may come
    sample: bool = False  # draw each token instead of searching for the best ones
    temperature: float = 1.0  # of sampling; below 1 sharpens the distribution, above 1 flattens it
    top_k: int = 0  # sample from the k most probable tokens; 0 from all
    top_p: float = 1.0  # sample from the fewest tokens that hold this share of the probability
    seed: int = 1  # of sampling; with the line's number it decides the sample
    ban_unk: bool = False  # never produce the unknown token
    shortlist: bool = False  # choose among the tokens that the model's shortlist has for the source, and no others
    no_repeat_ngram: int = 0  # no sequence of so many tokens is produced twice; 0 allows all
    repetition_penalty: float = 1.0  # what the log-probability of a token is multiplied by that was produced before
    beam_groups: int = 1  # equal parts of the beam, each of which is drawn away from what those before it choose
    diversity_penalty: float = 0.5  # of beam_groups: off a log-probability, for each earlier hypothesis that chose it

    def __post_init__(self) -> None:
        for name in ("beam_size", "n_best"):
            value = getattr(self, name)
            if not 1 <= value <= MAX_HYPOTHESES:
                raise ConfigError(f"{name} ({reprlib.repr(value)}) must be between 1 and {MAX_HYPOTHESES}")
        if self.per_token and not self.scores:
            raise ConfigError("per_token needs scores: it keeps the log-probability of every token")
        if self.length_penalty_type not in get_args(LengthPenaltyType):
            choices = ", ".join(get_args(LengthPenaltyType))
            raise ConfigError(f"length_penalty_type ({self.length_penalty_type!r}) must be one of {choices}")
        if not 0 <= self.length_penalty <= MAX_LENGTH_PENALTY:
            raise ConfigError(f"length_penalty ({self.length_penalty}) must be between 0 and {MAX_LENGTH_PENALTY}")
        self._check_lengths()
        self._check_sampling()
        self._check_rules()

    def __str__(self) -> str:
        """The circumstances that a number should be printed with."""
        return self._search_in_words() + (", shortlist" if self.shortlist else "")

    def _search_in_words(self) -> str:
        if self.sample:
            cuts = f"top-k {self.top_k}, top-p {self.top_p:g}"
            return f"sampling, temperature {self.temperature:g}, {cuts}, seed {self.seed}"
        search = "greedy"
        if self.beam_size > 1:
            search = f"beam {self.beam_size}" + (", early stopping" if self.early_stopping else "")
        if self.beam_groups > 1:
            search += f" in {self.beam_groups} groups, diversity penalty {self.diversity_penalty:g}"
        return f"{search}, length penalty {self.length_penalty_type} {self.length_penalty:g}"

    @property
    def has_scores(self) -> bool:
        """Whether what is found has a log-probability and a score: all searches but a greedy one need them."""
        return self.scores or self.beam_size > 1 or self.sample

    @property
    def meets_constraints(self) -> bool:
        """Whether a translation can be made to contain something: it takes a beam, and one alone."""
        return self.beam_size > 1 and self.beam_groups == 1

    def length_limit(self, num_source_tokens: int) -> int:
        """Count the tokens that the translation of so many source tokens may have, both without their end token."""
        limit = math.ceil(self.max_length_ratio * num_source_tokens) + LENGTH_MARGIN
        if self.max_length is not None:
            limit = min(limit, self.max_length)
        return max(limit, self.min_length)

    def penalty(self, num_tokens: int) -> float:
        """Give what the log-probability of so many tokens, the end token included, is divided by for its score.

        That is length ** length_penalty for "avg", ((5 + length) / 6) ** length_penalty for "gnmt" (equation 14 of Wu
        et al. 2016) and 1 for "none". Without it the shorter of two hypotheses wins too often: every token makes the
        log-probability smaller.
        """
        match self.length_penalty_type:
            case "avg":
                return float(num_tokens**self.length_penalty)
            case "gnmt":
                return float(((5 + num_tokens) / 6) ** self.length_penalty)
            case "none":
                return 1.0

    def score(self, log_probability: float, num_tokens: int) -> float:
        """Divide a log-probability by the length penalty: this number ranks the hypotheses of a sentence.

        Args:
            log_probability: natural logarithm, of the whole hypothesis.
            num_tokens: its length, the end token included; 0 for a blank line, whose score is its log-probability.
        """
        return log_probability / self.penalty(num_tokens) if num_tokens else log_probability

    def _check_lengths(self) -> None:
        if not 0 <= self.min_length <= MAX_MIN_LENGTH:
            raise ConfigError(f"min_length ({reprlib.repr(self.min_length)}) must be between 0 and {MAX_MIN_LENGTH}")
        if self.max_length is not None and self.max_length < max(1, self.min_length):
            raise ConfigError(f"max_length ({self.max_length}) must be at least 1 and at least min_length")
        if not 0 < self.max_length_ratio <= 1000:
            raise ConfigError(f"max_length_ratio ({self.max_length_ratio}) must be above 0 and at most 1000")

    def _check_rules(self) -> None:
        if self.no_repeat_ngram < 0:
            raise ConfigError(f"no_repeat_ngram ({self.no_repeat_ngram}) must be at least 0")
        if not 1 <= self.repetition_penalty < math.inf:
            raise ConfigError(f"repetition_penalty ({self.repetition_penalty}) must be at least 1")
        if not 0 <= self.diversity_penalty < math.inf:
            raise ConfigError(f"diversity_penalty ({self.diversity_penalty}) must be at least 0")
        if self.beam_groups < 1 or self.beam_size % self.beam_groups:
            raise ConfigError(f"beam_groups ({self.beam_groups}) must divide beam_size ({self.beam_size})")

    def _check_sampling(self) -> None:
        if self.sample and self.beam_size != 1:
            raise ConfigError(f"sampling keeps no beam: beam_size ({self.beam_size}) must be 1 with sample")
        if not self.sample and self.n_best > self.beam_size:
            raise ConfigError(
                f"n_best ({self.n_best}) must not exceed beam_size ({self.beam_size}): "
                "a beam finds no more hypotheses than it keeps"
            )
        if not (math.isfinite(self.temperature) and self.temperature > 0):
            raise ConfigError(f"temperature ({self.temperature}) must be above 0; greedy search is its limit at 0")
        if self.top_k < 0:
            raise ConfigError(f"top_k ({self.top_k}) must be at least 0; 0 samples from all tokens")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p ({self.top_p}) must be above 0 and at most 1")
        if not self.sample:
            for name, is_given in (
                ("temperature", self.temperature != 1.0),
                ("top_k", self.top_k != 0),
                ("top_p", self.top_p != 1.0),
            ):
                if is_given:
                    raise ConfigError(f"{name} needs sample: without it nothing is drawn")


@dataclass(frozen=True, kw_only=True)
class LineGuide:
    """What is asked of the translation of one line, as text."""

    prefix: str = ""  # it begins with this
    avoid: tuple[str, ...] = ()  # none of these stands in it
    constraints: tuple[str, ...] = ()  # all of these stand in it
    is_ordered: bool = False  # in this order

    def __post_init__(self) -> None:
        for name in ("avoid", "constraints"):
            if any(not phrase.strip() for phrase in getattr(self, name)):
                raise ConfigError(f"{name}: a phrase is blank")


NOTHING_ASKED = LineGuide()


@dataclass(frozen=True, kw_only=True)
class BatchConfig:
    """How many lines are worked on at once, what happens to a long one, and in which precision."""

    batch_type: BatchType = "tokens"  # what batch_size counts
    batch_size: int | None = None  # source tokens, padding and beams included, or sentences; None: DEFAULT_BATCH_SIZES
    long_input: LongInput = "split"  # a line above max_source_length is split and rejoined, cut short, or an error
    max_source_length: int = 1024  # source tokens that are translated at once, the end token aside
    precision: Precision = "auto"  # of the matrix products; auto: bf16 on a GPU that is fast in it, else fp32

    def __post_init__(self) -> None:
        for name, kind in (("batch_type", BatchType), ("long_input", LongInput), ("precision", Precision)):
            if getattr(self, name) not in get_args(kind):
                raise ConfigError(f"{name} ({getattr(self, name)!r}) must be one of {', '.join(get_args(kind))}")
        if self.batch_size is not None and self.batch_size < 1:
            raise ConfigError(f"batch_size ({self.batch_size}) must be at least 1")
        if self.max_source_length < 1:
            raise ConfigError(f"max_source_length ({self.max_source_length}) must be at least 1")

    @property
    def effective_batch_size(self) -> int:
        """The batch size, or the default of its type."""
        return DEFAULT_BATCH_SIZES[self.batch_type] if self.batch_size is None else self.batch_size


@dataclass(frozen=True, kw_only=True)
class TranslationConfig:
    """All that decides what becomes of a line, beside the models and what is asked of the line itself."""

    search: SearchConfig = SearchConfig()
    batching: BatchConfig = BatchConfig()
    tag: str | None = None  # into what a model of several directions translates
    utility: Utility | None = None  # by which the best of n_best translations is chosen; None: it stays the first
    has_alignments: bool = False  # words are aligned

    def __post_init__(self) -> None:
        if self.utility is not None and self.utility not in get_args(Utility):
            raise ConfigError(f"utility ({self.utility!r}) must be one of {', '.join(get_args(Utility))}")
