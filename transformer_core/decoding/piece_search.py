"""Ids to ids: pieces of lines are encoded in batches, and their translations searched for in cohorts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from tokenizer import Tokenizer
from transformer_core.data.padding import pad
from transformer_core.decoding.batching import BatchRunner
from transformer_core.decoding.beam import BeamSearch
from transformer_core.decoding.cohort import Cohorts, NoRoomError
from transformer_core.decoding.config import BatchConfig, SearchConfig
from transformer_core.decoding.constrained import ConstrainedBeamSearch, Constraints
from transformer_core.decoding.diverse import DiverseBeamSearch
from transformer_core.decoding.greedy import GreedySearch
from transformer_core.decoding.guidance import Guidance, Guide
from transformer_core.decoding.linear import cache_dtype, for_decoding
from transformer_core.decoding.sampling import Sampling, random_source
from transformer_core.decoding.search import Hypothesis, Strategy, search
from transformer_core.decoding.step import ModelStep, StepState, decoding_mode
from transformer_core.lexicon.shortlist import Shortlist, require_shortlist
from transformer_core.model import Transformer

__all__ = ["Piece", "PieceSearch"]


@dataclass(frozen=True, kw_only=True)
class Piece:
    """What is decoded at once: a line or a part of one."""

    line_number: int
    place: int  # among the pieces of its line
    separator: str  # what stands between the piece before and this one
    token_ids: list[int]  # not empty
    guide: Guide
    constraints: Constraints | None  # None where there are none


class PieceSearch:
    """Searches for the translations of pieces.

    Args:
        models: of the same vocabularies on the same device; the mean of their probabilities counts.
        tokenizer: of the translations, for its special tokens.
        config: the search.
        batching: size of the batches, precision.
        place: says where a line stands, by its number, for messages.

    Attributes:
        runner: puts pieces into batches, and counts how often memory ran out.
        shortlist: what a translation may be made of, if the config asks for one.

    Raises:
        ConfigError: the device does not compute in the precision asked for.
    """

    def __init__(
        self,
        models: Sequence[Transformer],
        tokenizer: Tokenizer,
        config: SearchConfig,
        batching: BatchConfig,
        place: Callable[[int], str],
    ) -> None:
        self._precision = batching.precision
        self._models = [for_decoding(model, self._precision) for model in models]
        self._device = self._models[0].device
        self._tokenizer = tokenizer
        self._config = config
        self._place = place
        self._banned_ids = tokenizer.unwritten_ids
        if config.ban_unk:
            self._banned_ids.append(tokenizer.unk_id)
        # what is decoded as if it were a sentence of its own: samples, for each ends at its own time, and beam groups
        self._copies = config.n_best if config.sample else config.beam_groups
        self.runner = BatchRunner(batching, max(config.beam_size, self._copies))
        self.shortlist: Shortlist | None = None
        self._is_merging = True  # of what is left of batches
        self._max_target_length = min(model.config.max_length for model in models)

    def find(self, pieces: Sequence[Piece]) -> dict[tuple[int, int], list[Hypothesis]]:
        """Decode pieces, all with constraints or all without.

        Returns:
            The hypotheses of each piece, best first, by its line number and place.

        Raises:
            ModelError: there is no shortlist.
            OutOfMemoryError: there is no memory for one piece alone.
        """
        with decoding_mode(self._device, self._precision):
            found = self._find(pieces)
        names = [(piece.line_number, piece.place) for piece in pieces]
        return dict(zip(names, found, strict=True))

    def _find(self, pieces: Sequence[Piece]) -> list[list[Hypothesis]]:
        begun: list[tuple[Strategy, int]] | None = None
        while begun is None:
            begun = self._try_to_search(pieces)
        strategies = {id(strategy): strategy for strategy, _ in begun}
        found = {name: strategy.hypotheses() for name, strategy in strategies.items()}  # each gives all at once
        return [
            self._merged(found[id(strategy)][place * self._copies : (place + 1) * self._copies])
            for strategy, place in begun
        ]

    def _try_to_search(self, pieces: Sequence[Piece]) -> list[tuple[Strategy, int]] | None:
        """Search; give what `_begin` gives for each piece; None where merging needs too much memory, and then stops."""
        cohorts: Cohorts[StepState] | None = None
        if self._is_merging and pieces:
            num_candidates = self._strategy(pieces[:1]).num_candidates
            cohorts = Cohorts(
                self._step(num_candidates, None), self._device, self._config.beam_size // self._config.beam_groups
            )
        try:
            begun = self.runner.run(
                [len(piece.token_ids) + 1 for piece in pieces],
                lambda indices: self._begin([pieces[index] for index in indices], cohorts),
                lambda index: self._place(pieces[index].line_number),
            )
            if cohorts is not None:
                with self.runner.turn():
                    cohorts.finish()
        except NoRoomError:
            self._is_merging = False
            return None
        return begun

    def _begin(self, pieces: Sequence[Piece], cohorts: Cohorts[StepState] | None) -> list[tuple[Strategy, int]]:
        """Encode a batch and begin its search.

        Returns:
            For each piece the strategy that will have its hypotheses, and its place there.
        """
        eos_id, pad_id = self._tokenizer.eos_id, self._tokenizer.pad_id
        source, mask = pad([[*piece.token_ids, eos_id] for piece in pieces], pad_id, self._device)
        dtype = cache_dtype(self._precision, self._device)
        memories = [model.encode(source, mask).to(dtype) for model in self._models]
        if self._copies > 1:
            memories = [memory.repeat_interleave(self._copies, dim=0) for memory in memories]
            mask = None if mask is None else mask.repeat_interleave(self._copies, dim=0)
        strategy = self._strategy(pieces)
        guidance = self._guidance(pieces)
        step = self._step(strategy.num_candidates, guidance)
        state = step.start(memories, mask, self._candidates(pieces))
        if cohorts is None or guidance is not None:
            search(step, state, strategy, self._device)
        else:
            cohorts.begin(state, strategy)
        return [(strategy, place) for place in range(len(pieces))]

    def _candidates(self, pieces: Sequence[Piece]) -> tuple[Tensor, Tensor] | None:
        """Give the tokens that the rows of a batch may produce; what is asked of a translation is among them."""
        if not self._config.shortlist:
            return None
        rows = [piece for piece in pieces for _ in range(self._copies)]
        asked = [[*piece.guide.prefix] for piece in rows]
        for token_ids, piece in zip(asked, rows, strict=True):
            if piece.constraints is not None:
                token_ids += [token_id for phrase in piece.constraints.phrases for token_id in phrase]
        return require_shortlist(self.shortlist).of_lines([piece.token_ids for piece in rows], asked)

    def _step(self, num_candidates: int | None, guidance: Guidance | None) -> ModelStep:
        return ModelStep(
            self._models,
            self._tokenizer.eos_id,
            self._banned_ids,
            num_candidates,
            guidance,
            is_normalized=self._config.has_scores or guidance is not None,
        )

    def _merged(self, found: Sequence[list[Hypothesis]]) -> list[Hypothesis]:
        """Put what was found for the copies of a sentence together: samples in their order, the rest best first."""
        hypotheses = [hypothesis for of_copy in found for hypothesis in of_copy]
        if self._config.sample:
            return hypotheses
        return sorted(hypotheses, key=lambda hypothesis: -hypothesis.score)

    def _guidance(self, pieces: Sequence[Piece]) -> Guidance | None:
        """Make the rules of a batch; None where there are none."""
        guides = [piece.guide for piece in pieces for _ in range(self._copies)]
        has_rules = self._config.no_repeat_ngram > 0 or self._config.repetition_penalty != 1.0
        asks = any(guide.asks_anything for guide in guides)
        if not has_rules and not asks:
            return None
        return Guidance(self._config, guides, self._banned_ids, num_free=len(self._tokenizer.first_ids))

    def _strategy(self, pieces: Sequence[Piece]) -> Strategy:
        config, bos_id, eos_id = self._config, self._tokenizer.bos_id, self._tokenizer.eos_id
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

    def _length_limit(self, piece: Piece) -> int:
        """Count the tokens that the translation of a piece may have; what is asked of it must fit."""
        asked = len(piece.guide.prefix) + (0 if piece.constraints is None else piece.constraints.num_tokens)
        return int(min(max(self._config.length_limit(len(piece.token_ids)), asked), self._max_target_length))
