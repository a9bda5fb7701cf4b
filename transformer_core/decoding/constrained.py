"""Lexical constraints: beam search for translations in which given phrases stand (Post and Vilar 2018).

A hypothesis that has written a phrase is nearly always less probable than one that has not, so it would fall out of
an ordinary beam. Here hypotheses compete with those alone that have met as many tokens of the constraints: the beam is
divided among these banks, and the next tokens of the phrases are candidates at every step, however improbable. Only
hypotheses that have met everything may end.

A sentence has few hypotheses and all of this is bookkeeping on them, so it is plain Python.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from transformer_core.decoding.config import SearchConfig
from transformer_core.decoding.search import Candidates, Hypothesis, Move, Totals, should_compact

__all__ = ["ConstrainedBeamSearch", "Constraints"]

Phrase = tuple[int, ...]  # tokens, at least one


@dataclass(frozen=True)
class Constraints:
    """Phrases that must stand in the translation of a sentence."""

    phrases: tuple[Phrase, ...]
    is_ordered: bool = False  # in this order, each after the end of the one before; else anywhere

    @property
    def num_tokens(self) -> int:
        """Of all phrases together."""
        return sum(map(len, self.phrases))


@dataclass(frozen=True)
class _Branch:
    """A live hypothesis."""

    place: int  # in the beam before this step
    token_ids: tuple[int, ...]
    log_probability: float
    unmet: tuple[Phrase, ...]
    since: int = 0  # tokens before the place from which on an ordered phrase may stand
    totals: tuple[float, ...] = ()  # the log-probability after each token

    def progress(self, phrase: Phrase) -> int:
        """Count the first tokens of a phrase that have been written last."""
        for length in range(min(len(phrase) - 1, len(self.token_ids) - self.since), 0, -1):
            if self.token_ids[-length:] == phrase[:length]:
                return length
        return 0

    def open_phrases(self, *, is_ordered: bool) -> tuple[Phrase, ...]:
        """The phrases that can go on or begin now."""
        return self.unmet[:1] if is_ordered else self.unmet

    def num_met(self, constraints: Constraints) -> int:
        """Count the tokens of the constraints that are met: those of whole phrases, and of the one that is begun."""
        begun = max(
            (self.progress(phrase) for phrase in self.open_phrases(is_ordered=constraints.is_ordered)), default=0
        )
        return constraints.num_tokens - sum(map(len, self.unmet)) + begun

    def wanted(self, constraints: Constraints) -> list[int]:
        """Give the tokens that would bring a phrase further."""
        phrases = self.open_phrases(is_ordered=constraints.is_ordered)
        return [phrase[length] for phrase in phrases for length in {0, self.progress(phrase)}]

    def extended(self, place: int, token_id: int, log_probability: float, *, is_ordered: bool) -> "_Branch":
        """Write one more token; log_probability: of the whole."""
        totals = (*self.totals, log_probability)
        longer = _Branch(place, (*self.token_ids, token_id), log_probability, self.unmet, self.since, totals)
        met = [
            phrase
            for phrase in longer.open_phrases(is_ordered=is_ordered)
            if len(longer.token_ids) - self.since >= len(phrase) and longer.token_ids[-len(phrase) :] == phrase
        ]
        if not met:
            return longer
        if is_ordered:  # the same phrase may stand further back once more
            return _Branch(place, longer.token_ids, log_probability, self.unmet[1:], len(longer.token_ids), totals)
        unmet = tuple(phrase for phrase in self.unmet if phrase not in met)
        return _Branch(place, longer.token_ids, log_probability, unmet, totals=totals)


@dataclass
class _Sentence:
    """A sentence that is being translated."""

    number: int  # at the start
    limit: int
    constraints: Constraints
    live: list[_Branch]
    finished: list[Hypothesis]
    is_done: bool = False


class ConstrainedBeamSearch:
    """Keep `config.beam_size` live hypotheses per sentence, of every degree of having met its constraints.

    Args:
        config: beam size, how many to give, lengths and length penalty.
        bos_id: the first token fed.
        eos_id: the end token.
        length_limits: per sentence, how many tokens may stand before the end token.
        constraints: per sentence.
    """

    def __init__(
        self,
        config: SearchConfig,
        bos_id: int,
        eos_id: int,
        length_limits: Sequence[int],
        constraints: Sequence[Constraints],
    ) -> None:
        self._config = config
        self._bos_id = bos_id
        self._eos_id = eos_id
        self._length = 0
        self._beam = 1  # rows per sentence of the last step
        self._sentences = [
            _Sentence(number, limit, wanted, [_Branch(0, (), 0.0, wanted.phrases)], [])
            for number, (limit, wanted) in enumerate(zip(length_limits, constraints, strict=True))
        ]
        self._all = list(self._sentences)

    @property
    def num_candidates(self) -> int | None:
        """All tokens, for the next one of a phrase may be the least probable."""
        return None

    @property
    def totals(self) -> Totals:
        """None: hypotheses compete with those of their bank alone."""
        return None

    def start(self) -> Tensor:
        """Give the first token of every sentence, (sentences,) int64."""
        return torch.full((len(self._sentences),), self._bos_id)

    def advance(self, candidates: Candidates) -> Move:
        """Finish, extend and reorder the hypotheses of every sentence."""
        size = self._config.beam_size
        log_probabilities = candidates.log_probabilities.double()
        best_ids = log_probabilities.topk(min(size + 1, log_probabilities.size(1)), dim=1).indices
        for index, sentence in enumerate(self._sentences):
            if not sentence.is_done:
                rows = slice(index * self._beam, (index + 1) * self._beam)
                self._advance(
                    sentence, log_probabilities[rows], best_ids[rows].tolist(), candidates, index * self._beam
                )
        self._length += 1
        is_live = torch.tensor([not sentence.is_done for sentence in self._sentences])
        kept = is_live.nonzero().squeeze(1) if should_compact(is_live) else None
        if kept is not None:
            self._sentences = [self._sentences[index] for index in kept.tolist()]
        next_rows: list[int] = []
        tokens: list[int] = []
        for index, sentence in enumerate(self._sentences):
            # a place without a hypothesis repeats one whose continuations are not looked at
            places = [*sentence.live, *[sentence.live[0] if sentence.live else None] * (size - len(sentence.live))]
            next_rows += [index * self._beam + (0 if branch is None else branch.place) for branch in places]
            tokens += [self._eos_id if branch is None else branch.token_ids[-1] for branch in places]
        self._beam = size
        return Move(kept, torch.tensor(next_rows, dtype=torch.int64), torch.tensor(tokens, dtype=torch.int64))

    def hypotheses(self) -> list[list[Hypothesis]]:
        """Give the best `config.n_best` hypotheses of every sentence; of equals, that which was finished first."""
        return [
            sorted(sentence.finished, key=lambda hypothesis: -hypothesis.score)[: self._config.n_best]
            for sentence in self._all
        ]

    def _advance(
        self,
        sentence: _Sentence,
        log_probabilities: Tensor,
        best_ids: list[list[int]],
        candidates: Candidates,
        first: int,
    ) -> None:
        """Make one step of a sentence.

        Args:
            sentence: changes.
            log_probabilities: (beam, vocabulary) float64, of its rows.
            best_ids: the most probable tokens of each row.
            candidates: of all rows.
            first: its first row.
        """
        if self._length == sentence.limit:
            self._end_all(sentence, log_probabilities, candidates.end_log_probabilities[first:].tolist())
            return
        ways: list[_Branch] = []
        ends: list[tuple[_Branch, float]] = []
        for place, branch in enumerate(sentence.live):
            wanted = branch.wanted(sentence.constraints)
            for token_id in dict.fromkeys([*best_ids[place], *wanted]):
                total = branch.log_probability + float(log_probabilities[place, token_id])
                if total == -torch.inf:
                    continue
                if token_id == self._eos_id:
                    if not branch.unmet and self._length >= self._config.min_length:
                        ends.append((branch, total))
                    continue
                ways.append(branch.extended(place, token_id, total, is_ordered=sentence.constraints.is_ordered))
        ways.sort(key=lambda way: -way.log_probability)
        sentence.live = self._allocate(ways, sentence.constraints)
        # an end counts if it is among the best of those that have met everything
        complete = sorted([way.log_probability for way in ways if not way.unmet] + [total for _, total in ends])
        threshold = complete[-self._config.beam_size :][0] if complete else 0.0
        for branch, total in ends:
            if total >= threshold:
                self._finish(sentence, branch, total, is_truncated=False)
        sentence.is_done = not sentence.live or self._is_decided(sentence)

    def _allocate(self, ways: list[_Branch], constraints: Constraints) -> list[_Branch]:
        """Choose the hypotheses that go on: as many of each bank as there are, and of the better ones what is left."""
        banks: dict[int, list[_Branch]] = {}
        for way in ways:
            banks.setdefault(way.num_met(constraints), []).append(way)
        size = self._config.beam_size
        if len(banks) > size:  # more than places: the best of each of those that have met most
            banks = {number: banks[number][:1] for number in sorted(banks, reverse=True)[:size]}
        share = size // max(1, len(banks))
        chosen = [way for bank in banks.values() for way in bank[:share]]
        rest = [(number, way) for number, bank in banks.items() for way in bank[share:]]
        rest.sort(key=lambda item: (-item[0], -item[1].log_probability))
        chosen += [way for _, way in rest[: size - len(chosen)]]
        return sorted(chosen, key=lambda way: -way.log_probability)

    def _is_decided(self, sentence: _Sentence) -> bool:
        """Tell whether enough has ended, and no live hypothesis would be better if it ended at once, for certain."""
        if len(sentence.finished) < self._config.beam_size:
            return False
        best = max(hypothesis.score for hypothesis in sentence.finished)
        scores = [self._config.score(branch.log_probability, self._length + 2) for branch in sentence.live]
        return self._config.early_stopping or max(scores) <= best

    def _end_all(self, sentence: _Sentence, log_probabilities: Tensor, ends: list[float]) -> None:
        """End the hypotheses at the length limit; where none has met everything, those that have met most."""
        most = max(branch.num_met(sentence.constraints) for branch in sentence.live)
        for place, branch in enumerate(sentence.live):
            if branch.unmet and (sentence.finished or branch.num_met(sentence.constraints) < most):
                continue
            is_truncated = int(log_probabilities[place].argmax()) != self._eos_id
            self._finish(sentence, branch, branch.log_probability + ends[place], is_truncated=is_truncated)
        sentence.is_done = True

    def _finish(self, sentence: _Sentence, branch: _Branch, log_probability: float, *, is_truncated: bool) -> None:
        score = self._config.score(log_probability, len(branch.token_ids) + 1)
        each: tuple[float, ...] = ()
        if self._config.per_token:
            each = tuple(after - before for before, after in pairwise((0.0, *branch.totals, log_probability)))
        sentence.finished.append(Hypothesis(list(branch.token_ids), log_probability, score, is_truncated, each))
