"""Text to text: lines are tokenised, sorted by length, decoded in batches and put back in order."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from tokenizer import Tokenizer
from transformer_core.data.lines import is_blank
from transformer_core.decoding.batching import BatchRunner, pad
from transformer_core.decoding.beam import BeamSearch
from transformer_core.decoding.config import BatchConfig, SearchConfig
from transformer_core.decoding.greedy import GreedySearch
from transformer_core.decoding.long_input import split_text
from transformer_core.decoding.sampling import Sampling, random_source
from transformer_core.decoding.search import Hypothesis, Strategy, search
from transformer_core.decoding.step import ModelStep, compute_dtype, decoding_mode, device_of
from transformer_core.errors import DataError, ModelError
from transformer_core.model import Transformer
from transformer_core.model_files import require_decoder

__all__ = ["TargetText", "TextEncoder", "Translation", "Translator"]


class TextEncoder(Protocol):
    """Turns source lines into ids: a Tokenizer, or what looks like one from here."""

    def encode(self, line: str) -> list[int]:
        """Turn a line into ids."""

    def encode_batch(self, lines: Sequence[str]) -> list[list[int]]:
        """Turn lines into ids; the same as `encode` on each."""


@dataclass(frozen=True, kw_only=True)
class TargetText:
    """One hypothesis as text."""

    text: str
    score: float  # what ranks: the log-probability after the length penalty
    log_probability: float  # natural logarithm of the whole hypothesis, end token included
    num_tokens: int  # end tokens included; 0 for a blank line
    token_ids: tuple[int, ...]  # as they were decoded, end tokens aside
    is_truncated: bool  # the length limit ended it where the model would have gone on


@dataclass(frozen=True, kw_only=True)
class Translation:
    """What became of one input line; its text and numbers are those of its first hypothesis."""

    hypotheses: tuple[TargetText, ...]  # best first; samples in the order in which they were drawn
    is_blank: bool = False  # the line held nothing but white space, and the model was not asked
    is_split: bool = False  # the line was too long: translated in pieces and joined
    is_source_cut: bool = False  # the line was too long: its end is not translated

    @property
    def text(self) -> str:
        """The translation."""
        return self.hypotheses[0].text

    @property
    def score(self) -> float:
        """What ranks: the log-probability after the length penalty."""
        return self.hypotheses[0].score

    @property
    def log_probability(self) -> float:
        """Natural logarithm of the probability, end token included."""
        return self.hypotheses[0].log_probability

    @property
    def is_truncated(self) -> bool:
        """Whether something is missing: the end of the line, or the end of its translation."""
        return self.is_source_cut or self.hypotheses[0].is_truncated


# A blank line is blank in every language: certain, and without the model.
_BLANK_TEXT = TargetText(text="", score=0.0, log_probability=0.0, num_tokens=0, token_ids=(), is_truncated=False)
_BLANK = Translation(hypotheses=(_BLANK_TEXT,), is_blank=True)


@dataclass(frozen=True, kw_only=True)
class _Piece:
    """What is decoded at once: a line or a part of one."""

    line_number: int
    place: int  # among the pieces of its line
    separator: str  # what stands between the piece before and this one
    token_ids: list[int]  # not empty


@dataclass(kw_only=True)
class _Source:
    """An input line, ready to be decoded."""

    pieces: list[_Piece]  # none for a blank line
    is_cut: bool = False
    found: list[list[Hypothesis]] = field(default_factory=list)  # the hypotheses of every piece


class Translator:
    """Translates lines with a loaded model.

    Args:
        model: computes, wherever it is.
        source_tokenizer: of the lines.
        target_tokenizer: of the translations.
        config: the search; SearchConfig() if not given.
        batching: size of the batches, long lines, precision; BatchConfig() if not given.
        name: what messages call the input.

    Raises:
        ModelError: the model has no decoder.
    """

    def __init__(
        self,
        model: Transformer,
        source_tokenizer: TextEncoder,
        target_tokenizer: Tokenizer,
        config: SearchConfig | None = None,
        batching: BatchConfig | None = None,
        name: str = "input",
    ) -> None:
        require_decoder(model.config)
        self._model = model
        self._source_tokenizer = source_tokenizer
        self._target_tokenizer = target_tokenizer
        self._config = config or SearchConfig()
        self._batching = batching or BatchConfig()
        self._name = name
        self._num_samples = self._config.n_best if self._config.sample else 1
        self._runner = BatchRunner(self._batching, max(self._config.beam_size, self._num_samples))
        self._max_source_length = self._batching.max_source_length
        self._max_target_length = math.inf
        if model.config.positions == "learned":  # a hard limit; one position is the end token's, or the first token's
            self._max_source_length = min(self._max_source_length, model.config.max_positions - 1)
            self._max_target_length = model.config.max_positions - 1

    @property
    def num_halvings(self) -> int:
        """How often memory ran out and the batches were made smaller."""
        return self._runner.num_halvings

    def translate(self, lines: Sequence[str], first_line_number: int = 1) -> list[Translation]:
        """Translate lines; what becomes of one does not depend on the others.

        Args:
            lines: without their ends.
            first_line_number: place of the first one in the whole input; messages and samples depend on it.

        Raises:
            DataError: a line is too long and `long_input` is "error".
            OutOfMemoryError: there is no memory for one line alone.
            ModelError: the model computes no probabilities, but NaN.
        """
        encoded = self._source_tokenizer.encode_batch(["" if is_blank(line) else line for line in lines])
        sources = [
            self._source(line, token_ids, line_number)
            for line_number, (line, token_ids) in enumerate(zip(lines, encoded, strict=True), start=first_line_number)
        ]
        places = [(source, piece) for source in sources for piece in source.pieces]
        with decoding_mode(self._model, self._batching.precision):
            found = self._runner.run(
                [len(piece.token_ids) + 1 for _, piece in places],
                lambda indices: self._decode([places[index][1] for index in indices]),
                lambda index: f"{self._name}:{places[index][1].line_number}",
            )
        for (source, piece), hypotheses in zip(places, found, strict=True):
            source.found.append(self._checked(hypotheses, piece))
        return [self._translation(source) for source in sources]

    def _source(self, line: str, token_ids: list[int], line_number: int) -> _Source:
        """Cut a line into pieces that the model can take.

        Raises:
            DataError: it is too long and must not be cut.
        """
        limit = self._max_source_length
        texts = [("", token_ids)]
        if is_long := len(token_ids) > limit:
            match self._batching.long_input:
                case "error":
                    raise DataError(
                        f"{self._name}:{line_number}: has {len(token_ids)} tokens, more than the {limit} that are "
                        "translated at once; shorten it, or pass --long-input split"
                    )
                case "truncate":
                    pass
                case "split":
                    encode = self._source_tokenizer.encode
                    cut = split_text(line, limit, lambda text: len(encode(text)))
                    texts = [(separator, encode(text)) for separator, text in cut]
        pieces = [
            _Piece(line_number=line_number, place=place, separator=separator, token_ids=ids[:limit])
            for place, (separator, ids) in enumerate(texts)
            if ids
        ]
        return _Source(pieces=pieces, is_cut=is_long and self._batching.long_input == "truncate")

    def _decode(self, pieces: Sequence[_Piece]) -> list[list[Hypothesis]]:
        """Search for the translations of one batch."""
        device = device_of(self._model)
        target = self._target_tokenizer
        source, mask = pad([[*piece.token_ids, target.eos_id] for piece in pieces], target.pad_id, device)
        memory = self._model.encode(source, mask).to(compute_dtype(self._batching.precision, device))
        if self._num_samples > 1:  # every sample is a sentence of its own, because each ends at its own time
            memory = memory.repeat_interleave(self._num_samples, dim=0)
            mask = None if mask is None else mask.repeat_interleave(self._num_samples, dim=0)
        strategy = self._strategy(pieces)
        banned_ids = [target.pad_id, target.bos_id, target.mask_id, *target.tags.values()]
        if self._config.ban_unk:
            banned_ids.append(target.unk_id)
        step = ModelStep(self._model, target.eos_id, banned_ids, strategy.num_candidates)
        found = search(step, self._model.start(memory, mask), strategy, device)
        return [
            [hypothesis for row in found[first : first + self._num_samples] for hypothesis in row]
            for first in range(0, len(found), self._num_samples)
        ]

    def _strategy(self, pieces: Sequence[_Piece]) -> Strategy:
        config, bos_id, eos_id = self._config, self._target_tokenizer.bos_id, self._target_tokenizer.eos_id
        limits = [int(min(config.length_limit(len(piece.token_ids)), self._max_target_length)) for piece in pieces]
        if not config.sample:
            kind = BeamSearch if config.beam_size > 1 else GreedySearch
            return kind(config, bos_id, eos_id, limits)
        rows = [(piece, sample) for piece in pieces for sample in range(self._num_samples)]
        sources = [random_source(config.seed, piece.line_number, piece.place, sample) for piece, sample in rows]
        return Sampling(config, bos_id, eos_id, [limit for limit in limits for _ in range(self._num_samples)], sources)

    def _checked(self, hypotheses: list[Hypothesis], piece: _Piece) -> list[Hypothesis]:
        """Give the hypotheses back.

        Raises:
            ModelError: there is none with a finite log-probability.
        """
        if not hypotheses or not all(math.isfinite(hypothesis.log_probability) for hypothesis in hypotheses):
            raise ModelError(
                f"the model computes no probabilities (NaN) for {self._name}:{piece.line_number}: "
                "its weights are damaged or its training diverged; take another --checkpoint"
            )
        return hypotheses

    def _translation(self, source: _Source) -> Translation:
        """Turn the hypotheses of all pieces of a line into text and join them, first with first and so on."""
        if not source.pieces:
            return _BLANK
        hypotheses = [
            self._join(source.pieces, [of_piece[rank] for of_piece in source.found])
            for rank in range(min(len(of_piece) for of_piece in source.found))
        ]
        return Translation(hypotheses=tuple(hypotheses), is_split=len(source.pieces) > 1, is_source_cut=source.is_cut)

    def _join(self, pieces: Sequence[_Piece], hypotheses: Sequence[Hypothesis]) -> TargetText:
        """Join one hypothesis per piece; their log-probabilities add up, end tokens included."""
        texts = self._target_tokenizer.decode_batch([hypothesis.token_ids for hypothesis in hypotheses])
        separators = ["", *[piece.separator for piece in pieces[1:]]]
        log_probability = sum(hypothesis.log_probability for hypothesis in hypotheses)
        num_tokens = sum(len(hypothesis.token_ids) + 1 for hypothesis in hypotheses)
        return TargetText(
            text="".join(part for pair in zip(separators, texts, strict=True) for part in pair),
            score=self._config.score(log_probability, num_tokens),
            log_probability=log_probability,
            num_tokens=num_tokens,
            token_ids=tuple(index for hypothesis in hypotheses for index in hypothesis.token_ids),
            is_truncated=any(hypothesis.is_truncated for hypothesis in hypotheses),
        )
