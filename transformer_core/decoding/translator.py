"""Text to text: lines are tokenised, sorted by length, decoded in batches and put back in order."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from tokenizer import Tokenizer
from transformer_core.decoding.config import NOTHING_ASKED, BatchConfig, LineGuide, SearchConfig
from transformer_core.decoding.constrained import Constraints
from transformer_core.decoding.encoding import TextEncoder, cut_line, encode_lines
from transformer_core.decoding.finite import require_finite
from transformer_core.decoding.guidance import Guide
from transformer_core.decoding.piece_search import Piece, PieceSearch
from transformer_core.decoding.search import Hypothesis
from transformer_core.decoding.translation import TargetText, Translation, find_unmet
from transformer_core.errors import LineError
from transformer_core.lexicon.shortlist import Shortlist
from transformer_core.model import Transformer
from transformer_core.model_files import require_decoder

__all__ = ["Translator"]


# A blank line is blank in every language: certain, and without the model.
_BLANK_TEXT = TargetText(text="", score=0.0, log_probability=0.0, num_tokens=0, piece_ids=(), is_truncated=False)
_BLANK = Translation(hypotheses=(_BLANK_TEXT,), is_blank=True)


@dataclass(kw_only=True)
class _Source:
    """An input line, ready to be decoded."""

    pieces: list[Piece]  # none for a blank line
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

    Attributes:
        runner: puts lines into batches, and counts how often memory ran out.
        max_source_length: tokens that a piece of a line may have.

    Raises:
        ConfigError: the device does not compute in the precision asked for.
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
        models = [model] if isinstance(model, Transformer) else list(model)
        for each in models:
            require_decoder(each.config)
        self._source_tokenizer = source_tokenizer
        self._target_tokenizer = target_tokenizer
        self._config = config or SearchConfig()
        self._batching = batching or BatchConfig()
        self._place = place
        self._search = PieceSearch(models, target_tokenizer, self._config, self._batching, place)
        self.runner = self._search.runner
        self.max_source_length = int(
            min(self._batching.max_source_length, *(each.config.max_length for each in models))
        )

    def choose_among(self, shortlist: Shortlist) -> None:
        """Take the shortlist that a search with one needs."""
        self._search.shortlist = shortlist

    @property
    def num_halvings(self) -> int:
        """How often memory ran out and the batches were made smaller."""
        return self.runner.num_halvings

    def translate(
        self, lines: Sequence[str], first_line_number: int = 1, guides: Sequence[LineGuide] | None = None
    ) -> list[Translation]:
        """Translate lines; what becomes of one does not depend on the others.

        Args:
            lines: without their ends.
            first_line_number: place of the first one in the whole input; messages and samples depend on it.
            guides: what is asked of each translation; nothing if not given.

        Raises:
            LineError: a line is too long and `long_input` is "error"; or it has constraints, but there is no beam to
                meet them with; or what is asked of its translation leaves nothing that could be written.
            OutOfMemoryError: there is no memory for one line alone.
            ModelError: the model computes no probabilities, but NaN; or there is no shortlist and the search needs it.
        """
        encoded = encode_lines(self._source_tokenizer, lines)
        guides = guides or [NOTHING_ASKED] * len(lines)
        numbers = range(first_line_number, first_line_number + len(lines))
        sources = list(map(self._source, lines, encoded, numbers, guides))
        # apart, because constraints are met by another search, which must not depend on the line beside
        found = self._search.find([piece for source in sources for piece in source.pieces if piece.constraints is None])
        found |= self._search.find(
            [piece for source in sources for piece in source.pieces if piece.constraints is not None]
        )
        for source in sources:
            source.found = [
                self._distinct(self._checked(found[piece.line_number, piece.place], piece)) for piece in source.pieces
            ]
        return [self._translation(source) for source in sources]

    def _source(self, line: str, token_ids: list[int], line_number: int, guide: LineGuide) -> _Source:
        """Cut a line into pieces that the model can take.

        Raises:
            LineError: it is too long and must not be cut, or it has constraints that cannot be met.
        """
        limit, long_input = self.max_source_length, self._batching.long_input
        is_long = len(token_ids) > limit
        if is_long and long_input == "error":
            raise LineError(
                line_number,
                f"{self._place(line_number)}: has {len(token_ids)} tokens, more than the {limit} that are "
                "translated at once; shorten it, or pass --long-input split",
            )
        texts = cut_line(self._source_tokenizer, line, token_ids, limit, long_input)
        pieces = [
            Piece(
                line_number=line_number,
                place=place,
                separator=text.separator,
                token_ids=text.token_ids,
                guide=self._guide(guide, has_prefix=place == 0),
                constraints=self._constraints(guide, line_number) if len(texts) == 1 else None,
            )
            for place, text in enumerate(texts)
        ]
        return _Source(pieces=pieces, guide=guide, is_cut=is_long and long_input == "truncate")

    def _guide(self, guide: LineGuide, *, has_prefix: bool) -> Guide:
        """Turn what is asked of a translation into tokens."""
        tokenizer = self._target_tokenizer
        asked = tokenizer.encode_words(guide.prefix) if has_prefix and guide.prefix else []
        return Guide(
            prefix=(*tokenizer.first_ids, *asked),  # an imported model may begin every piece with the same
            avoid=tuple(tuple(tokenizer.encode_words(phrase)) for phrase in guide.avoid),
        )

    def _constraints(self, guide: LineGuide, line_number: int) -> Constraints | None:
        """Turn constraints into tokens.

        Raises:
            LineError: there is no beam to meet them with.
        """
        if not guide.constraints:
            return None
        if not self._config.meets_constraints:
            raise LineError(
                line_number,
                f"{self._place(line_number)}: asks for constraints, which are met by beam search: "
                "give a --beam-size above 1, without --beam-groups",
            )
        phrases = [tuple(self._target_tokenizer.encode_words(phrase)) for phrase in guide.constraints]
        if not guide.is_ordered:  # in an order, what is named twice stands there twice
            phrases = list(dict.fromkeys(phrases))
        return Constraints(tuple(phrases), guide.is_ordered)

    def _checked(self, hypotheses: list[Hypothesis], piece: Piece) -> list[Hypothesis]:
        """Give the hypotheses back.

        Raises:
            LineError: all that could be written was forbidden.
            ModelError: there is none with a finite log-probability.
        """
        is_guided = bool(piece.guide.asks_anything or piece.constraints or self._config.no_repeat_ngram)
        if is_guided and all(hypothesis.log_probability == -math.inf for hypothesis in hypotheses):
            raise LineError(
                piece.line_number,
                f"{self._place(piece.line_number)}: what is asked of its translation leaves no token to go on with; "
                "ask for less",
            )
        log_probabilities = [hypothesis.log_probability for hypothesis in hypotheses]
        require_finite(log_probabilities or [math.nan], self._place(piece.line_number))
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
            blank = replace(_BLANK_TEXT, unmet=source.guide.constraints)
            return replace(_BLANK, hypotheses=(blank,))
        hypotheses = [
            self._join(source, [of_piece[rank] for of_piece in source.found])
            for rank in range(min(len(of_piece) for of_piece in source.found))
        ]
        return Translation(
            hypotheses=tuple(hypotheses),
            is_split=len(source.pieces) > 1,
            is_source_cut=source.is_cut,
        )

    def _join(self, source: _Source, hypotheses: Sequence[Hypothesis]) -> TargetText:
        """Join one hypothesis per piece; their log-probabilities add up, end tokens included."""
        texts = self._target_tokenizer.decode_batch([hypothesis.token_ids for hypothesis in hypotheses])
        separators = ["", *[piece.separator for piece in source.pieces[1:]]]
        text = "".join(part for pair in zip(separators, texts, strict=True) for part in pair)
        log_probability = sum(hypothesis.log_probability for hypothesis in hypotheses)
        if not self._config.has_scores:
            log_probability = math.nan
        tokens: list[str] = []
        if self._config.per_token:
            end = [self._target_tokenizer.eos_id]
            ids = [index for hypothesis in hypotheses for index in hypothesis.token_ids + end]
            tokens = self._target_tokenizer.tokens(ids)
        num_tokens = sum(len(hypothesis.token_ids) + 1 for hypothesis in hypotheses)
        return TargetText(
            text=text,
            score=self._config.score(log_probability, num_tokens),
            log_probability=log_probability,
            num_tokens=num_tokens,
            piece_ids=tuple(tuple(hypothesis.token_ids) for hypothesis in hypotheses),
            is_truncated=any(hypothesis.is_truncated for hypothesis in hypotheses),
            tokens=tuple(tokens),
            token_log_probabilities=tuple(
                value for hypothesis in hypotheses for value in hypothesis.token_log_probabilities
            ),
            unmet=find_unmet(text, source.guide, self._target_tokenizer.normalize),
        )
