"""Text to text: lines are tokenised, sorted by length, decoded in batches and put back in order."""

import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Protocol

from tokenizer import Tokenizer
from transformer_core.data.lines import is_blank
from transformer_core.decoding.batching import BatchRunner, pad
from transformer_core.decoding.beam import BeamSearch
from transformer_core.decoding.config import NOTHING_ASKED, BatchConfig, LineGuide, SearchConfig
from transformer_core.decoding.constrained import ConstrainedBeamSearch, Constraints
from transformer_core.decoding.diverse import DiverseBeamSearch
from transformer_core.decoding.greedy import GreedySearch
from transformer_core.decoding.guidance import Guidance, Guide
from transformer_core.decoding.long_input import split_text
from transformer_core.decoding.sampling import Sampling, random_source
from transformer_core.decoding.search import Hypothesis, Strategy, search
from transformer_core.decoding.step import ModelStep, compute_dtype, decoding_mode, device_of
from transformer_core.decoding.translation import TargetText, Translation
from transformer_core.errors import ConfigError, DataError, ModelError
from transformer_core.model import Transformer
from transformer_core.model_files import require_decoder

__all__ = ["TextEncoder", "Translator"]


class TextEncoder(Protocol):
    """Turns source lines into ids: a Tokenizer, or what looks like one from here."""

    def encode(self, line: str) -> list[int]:
        """Turn a line into ids."""

    def encode_batch(self, lines: Sequence[str]) -> list[list[int]]:
        """Turn lines into ids; the same as `encode` on each."""


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
    guide: Guide
    constraints: Constraints | None  # None where there are none


@dataclass(kw_only=True)
class _Source:
    """An input line, ready to be decoded."""

    pieces: list[_Piece]  # none for a blank line
    guide: LineGuide
    is_cut: bool = False
    found: list[list[Hypothesis]] = field(default_factory=list)  # the hypotheses of every piece


class Translator:
    """Translates lines with a loaded model.

    Args:
        model: computes, wherever it is; or several of the same vocabularies on the same device, an ensemble.
        source_tokenizer: of the lines.
        target_tokenizer: of the translations.
        config: the search; SearchConfig() if not given.
        batching: size of the batches, long lines, precision; BatchConfig() if not given.
        place: says where a line stands, by its number, for messages: "file:line".

    Raises:
        ModelError: a model has no decoder.
    """

    def __init__(
        self,
        model: Transformer | Sequence[Transformer],
        source_tokenizer: TextEncoder,
        target_tokenizer: Tokenizer,
        config: SearchConfig | None = None,
        batching: BatchConfig | None = None,
        place: Callable[[int], str] = "input:{}".format,
    ) -> None:
        self._models = [model] if isinstance(model, Transformer) else list(model)
        for each in self._models:
            require_decoder(each.config)
        self._source_tokenizer = source_tokenizer
        self._target_tokenizer = target_tokenizer
        self._config = config or SearchConfig()
        self._batching = batching or BatchConfig()
        self._place = place
        # what is decoded as if it were a sentence of its own: samples, for each ends at its own time, and beam groups
        self._copies = self._config.n_best if self._config.sample else self._config.beam_groups
        self._runner = BatchRunner(self._batching, max(self._config.beam_size, self._copies))
        self._max_source_length = self._batching.max_source_length
        self._max_target_length = math.inf
        for each in self._models:
            if each.config.positions == "learned":  # a hard limit; one position is the end token's, or the first one's
                self._max_source_length = min(self._max_source_length, each.config.max_positions - 1)
                self._max_target_length = min(self._max_target_length, each.config.max_positions - 1)

    @property
    def num_halvings(self) -> int:
        """How often memory ran out and the batches were made smaller."""
        return self._runner.num_halvings

    def translate(
        self, lines: Sequence[str], first_line_number: int = 1, guides: Sequence[LineGuide] | None = None
    ) -> list[Translation]:
        """Translate lines; what becomes of one does not depend on the others.

        Args:
            lines: without their ends.
            first_line_number: place of the first one in the whole input; messages and samples depend on it.
            guides: what is asked of each translation; nothing if not given.

        Raises:
            ConfigError: there are constraints, but no beam to meet them with.
            DataError: a line is too long and `long_input` is "error".
            OutOfMemoryError: there is no memory for one line alone.
            ModelError: the model computes no probabilities, but NaN.
        """
        encoded = self._source_tokenizer.encode_batch(["" if is_blank(line) else line for line in lines])
        guides = guides or [NOTHING_ASKED] * len(lines)
        numbers = range(first_line_number, first_line_number + len(lines))
        sources = list(map(self._source, lines, encoded, numbers, guides))
        with ExitStack() as modes:
            for model in self._models:
                modes.enter_context(decoding_mode(model, self._batching.precision))
            # apart, because constraints are met by another search, which must not depend on the line beside
            found = self._run([piece for source in sources for piece in source.pieces if piece.constraints is None])
            found |= self._run(
                [piece for source in sources for piece in source.pieces if piece.constraints is not None]
            )
        for source in sources:
            source.found = [
                self._distinct(self._checked(found[piece.line_number, piece.place], piece)) for piece in source.pieces
            ]
        return [self._translation(source) for source in sources]

    def _run(self, pieces: Sequence[_Piece]) -> dict[tuple[int, int], list[Hypothesis]]:
        """Decode pieces in batches; give the hypotheses of each by its line number and place."""
        found = self._runner.run(
            [len(piece.token_ids) + 1 for piece in pieces],
            lambda indices: self._decode([pieces[index] for index in indices]),
            lambda index: self._place(pieces[index].line_number),
        )
        names = [(piece.line_number, piece.place) for piece in pieces]
        return dict(zip(names, found, strict=True))

    def _source(self, line: str, token_ids: list[int], line_number: int, guide: LineGuide) -> _Source:
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
                        f"{self._place(line_number)}: has {len(token_ids)} tokens, more than the {limit} that are "
                        "translated at once; shorten it, or pass --long-input split"
                    )
                case "truncate":
                    pass
                case "split":
                    encode = self._source_tokenizer.encode
                    cut = split_text(line, limit, lambda text: len(encode(text)))
                    texts = [(separator, encode(text)) for separator, text in cut]
        pieces = [
            _Piece(
                line_number=line_number,
                place=place,
                separator=separator,
                token_ids=ids[:limit],
                guide=self._guide(guide, has_prefix=place == 0),
                constraints=self._constraints(guide) if len(texts) == 1 else None,
            )
            for place, (separator, ids) in enumerate(texts)
            if ids
        ]
        return _Source(pieces=pieces, guide=guide, is_cut=is_long and self._batching.long_input == "truncate")

    def _guide(self, guide: LineGuide, *, has_prefix: bool) -> Guide:
        """Turn what is asked of a translation into tokens."""
        encode = self._target_tokenizer.encode
        return Guide(
            prefix=tuple(encode(guide.prefix)) if has_prefix and guide.prefix else (),
            avoid=tuple(tuple(encode(phrase)) for phrase in guide.avoid),
        )

    def _constraints(self, guide: LineGuide) -> Constraints | None:
        """Turn constraints into tokens.

        Raises:
            ConfigError: there is no beam to meet them with.
        """
        if not guide.constraints:
            return None
        if self._config.beam_size == 1 or self._config.beam_groups > 1:
            raise ConfigError("constraints are met by beam search: give a --beam-size above 1, without --beam-groups")
        phrases = dict.fromkeys(tuple(self._target_tokenizer.encode(phrase)) for phrase in guide.constraints)
        return Constraints(tuple(phrases), guide.is_ordered)

    def _decode(self, pieces: Sequence[_Piece]) -> list[list[Hypothesis]]:
        """Search for the translations of one batch."""
        device = device_of(self._models[0])
        target = self._target_tokenizer
        source, mask = pad([[*piece.token_ids, target.eos_id] for piece in pieces], target.pad_id, device)
        dtype = compute_dtype(self._batching.precision, device)
        memories = [model.encode(source, mask).to(dtype) for model in self._models]
        if self._copies > 1:
            memories = [memory.repeat_interleave(self._copies, dim=0) for memory in memories]
            mask = None if mask is None else mask.repeat_interleave(self._copies, dim=0)
        strategy = self._strategy(pieces)
        banned_ids = [target.pad_id, target.bos_id, target.mask_id, *target.tags.values()]
        if self._config.ban_unk:
            banned_ids.append(target.unk_id)
        guidance = self._guidance(pieces, banned_ids)
        step = ModelStep(self._models, target.eos_id, banned_ids, strategy.num_candidates, guidance)
        found = search(step, step.start(memories, mask), strategy, device)
        return [self._merged(found[first : first + self._copies]) for first in range(0, len(found), self._copies)]

    def _merged(self, found: Sequence[list[Hypothesis]]) -> list[Hypothesis]:
        """Put what was found for the copies of a sentence together: samples in their order, the rest best first."""
        hypotheses = [hypothesis for of_copy in found for hypothesis in of_copy]
        if self._config.sample:
            return hypotheses
        return sorted(hypotheses, key=lambda hypothesis: -hypothesis.score)

    def _guidance(self, pieces: Sequence[_Piece], banned_ids: Sequence[int]) -> Guidance | None:
        """Make the rules of a batch; None where there are none."""
        guides = [piece.guide for piece in pieces for _ in range(self._copies)]
        has_rules = self._config.no_repeat_ngram > 0 or self._config.repetition_penalty != 1.0
        return Guidance(self._config, guides, banned_ids) if has_rules or any(map(_asks, guides)) else None

    def _strategy(self, pieces: Sequence[_Piece]) -> Strategy:
        config, bos_id, eos_id = self._config, self._target_tokenizer.bos_id, self._target_tokenizer.eos_id
        if config.n_best > 1 and not config.sample:  # some may turn out to be one text
            config = replace(config, n_best=config.beam_size)
        limits = [self._length_limit(piece) for piece in pieces for _ in range(self._copies)]
        constraints = [piece.constraints for piece in pieces if piece.constraints is not None]
        if constraints:
            return ConstrainedBeamSearch(config, bos_id, eos_id, limits, constraints)
        if config.sample:
            rows = [(piece, sample) for piece in pieces for sample in range(self._copies)]
            sources = [random_source(config.seed, piece.line_number, piece.place, sample) for piece, sample in rows]
            return Sampling(config, bos_id, eos_id, limits, sources)
        if config.beam_groups > 1:
            return DiverseBeamSearch(config, bos_id, eos_id, limits)
        return (BeamSearch if config.beam_size > 1 else GreedySearch)(config, bos_id, eos_id, limits)

    def _length_limit(self, piece: _Piece) -> int:
        """Count the tokens that the translation of a piece may have; what is asked of it must fit."""
        asked = len(piece.guide.prefix) + (0 if piece.constraints is None else piece.constraints.num_tokens)
        return int(min(max(self._config.length_limit(len(piece.token_ids)), asked), self._max_target_length))

    def _checked(self, hypotheses: list[Hypothesis], piece: _Piece) -> list[Hypothesis]:
        """Give the hypotheses back.

        Raises:
            DataError: all that could be written was forbidden.
            ModelError: there is none with a finite log-probability.
        """
        is_guided = bool(_asks(piece.guide) or piece.constraints or self._config.no_repeat_ngram)
        if is_guided and all(hypothesis.log_probability == -math.inf for hypothesis in hypotheses):
            raise DataError(
                f"{self._place(piece.line_number)}: what is asked of its translation leaves no token to go on with; "
                "ask for less"
            )
        if not hypotheses or not all(math.isfinite(hypothesis.log_probability) for hypothesis in hypotheses):
            raise ModelError(
                f"the model computes no probabilities (NaN) for {self._place(piece.line_number)}: "
                "its weights are damaged or its training diverged; take another --checkpoint"
            )
        return hypotheses

    def _distinct(self, hypotheses: list[Hypothesis]) -> list[Hypothesis]:
        """Choose the n best, of those that are one text only the best; samples are what was drawn."""
        if self._config.sample or self._config.n_best == 1:
            return hypotheses[: self._config.n_best]
        texts = self._target_tokenizer.decode_batch([hypothesis.token_ids for hypothesis in hypotheses])
        best_of_each: dict[str, Hypothesis] = {}
        for text, hypothesis in zip(texts, hypotheses, strict=True):
            best_of_each.setdefault(text, hypothesis)
        return list(best_of_each.values())[: self._config.n_best]

    def _translation(self, source: _Source) -> Translation:
        """Turn the hypotheses of all pieces of a line into text and join them, first with first and so on."""
        if not source.pieces:
            return replace(_BLANK, guide=source.guide)
        hypotheses = [
            self._join(source.pieces, [of_piece[rank] for of_piece in source.found])
            for rank in range(min(len(of_piece) for of_piece in source.found))
        ]
        return Translation(
            hypotheses=tuple(hypotheses),
            is_split=len(source.pieces) > 1,
            is_source_cut=source.is_cut,
            guide=source.guide,
        )

    def _join(self, pieces: Sequence[_Piece], hypotheses: Sequence[Hypothesis]) -> TargetText:
        """Join one hypothesis per piece; their log-probabilities add up, end tokens included."""
        texts = self._target_tokenizer.decode_batch([hypothesis.token_ids for hypothesis in hypotheses])
        separators = ["", *[piece.separator for piece in pieces[1:]]]
        log_probability = sum(hypothesis.log_probability for hypothesis in hypotheses)
        tokens: list[str] = []
        if self._config.per_token:
            end = [self._target_tokenizer.eos_id]
            ids = [index for hypothesis in hypotheses for index in hypothesis.token_ids + end]
            tokens = self._target_tokenizer.tokens(ids)
        num_tokens = sum(len(hypothesis.token_ids) + 1 for hypothesis in hypotheses)
        return TargetText(
            text="".join(part for pair in zip(separators, texts, strict=True) for part in pair),
            score=self._config.score(log_probability, num_tokens),
            log_probability=log_probability,
            num_tokens=num_tokens,
            token_ids=tuple(index for hypothesis in hypotheses for index in hypothesis.token_ids),
            is_truncated=any(hypothesis.is_truncated for hypothesis in hypotheses),
            tokens=tuple(tokens),
            token_log_probabilities=tuple(
                value for hypothesis in hypotheses for value in hypothesis.token_log_probabilities
            ),
        )


def _asks(guide: Guide) -> bool:
    """Tell whether anything is asked of a translation but constraints."""
    return bool(guide.prefix or guide.avoid)
