"""Slow and obvious twins of the searches: one sentence at a time, Python lists, the whole prefix at every step.

A distribution is a function from a prefix (target tokens so far, without the first) to log-probabilities by id.
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from transformer_core.decoding.beam import BeamSearch
from transformer_core.decoding.best_tokens import best_candidates
from transformer_core.decoding.config import SearchConfig
from transformer_core.decoding.greedy import GreedySearch
from transformer_core.decoding.sampling import Sampling, random_source
from transformer_core.decoding.search import Candidates, Hypothesis, Totals, search

Prefix = tuple[int, ...]
Distribution = Callable[[Prefix], Sequence[float]]

BOS = 1
EOS = 2


def reference_greedy(distribution: Distribution, config: SearchConfig, limit: int) -> Hypothesis:
    prefix: Prefix = ()
    total = 0.0
    while True:
        log_probabilities = list(distribution(prefix))
        end = log_probabilities[EOS]
        if len(prefix) < config.min_length:
            log_probabilities[EOS] = -math.inf
        best = max(range(len(log_probabilities)), key=lambda token_id: (log_probabilities[token_id], -token_id))
        if best == EOS or len(prefix) == limit:
            total += end
            return Hypothesis(list(prefix), total, config.score(total, len(prefix) + 1), best != EOS)
        total += log_probabilities[best]
        prefix = (*prefix, best)


def reference_beam(distribution: Distribution, config: SearchConfig, limit: int) -> list[Hypothesis]:
    size = config.beam_size
    live: list[tuple[Prefix, float]] = [((), 0.0)]
    finished: list[Hypothesis] = []

    def finish(prefix: Prefix, total: float, is_truncated: bool) -> None:
        finished.append(Hypothesis(list(prefix), total, config.score(total, len(prefix) + 1), is_truncated))

    for length in range(limit + 1):
        distributions = [list(distribution(prefix)) for prefix, _ in live]
        if length == limit:
            for (prefix, total), log_probabilities in zip(live, distributions, strict=True):
                best = max(log_probabilities)
                finish(prefix, total + log_probabilities[EOS], log_probabilities.index(best) != EOS)
            break
        candidates = _continuations(live, distributions, may_end=length >= config.min_length)
        live = []
        for rank, (negative_total, _, _, token_id, prefix) in enumerate(candidates[: 2 * size]):
            if token_id == EOS:
                if rank < size:
                    finish(prefix, -negative_total, False)
            elif len(live) < size:
                live.append(((*prefix, token_id), -negative_total))
        if not live or (len(finished) >= size and (config.early_stopping or not _could_win(live, finished, config))):
            break
    return sorted(finished, key=lambda hypothesis: -hypothesis.score)[: config.n_best]


def _could_win(live: list[tuple[Prefix, float]], finished: list[Hypothesis], config: SearchConfig) -> bool:
    """Whether a live hypothesis would be the best if its end were the next token, for certain."""
    best = max(hypothesis.score for hypothesis in finished)
    return any(config.score(total, len(prefix) + 1) > best for prefix, total in live)


def _continuations(
    live: list[tuple[Prefix, float]], distributions: list[list[float]], *, may_end: bool
) -> list[tuple[float, int, float, int, Prefix]]:
    """All ways to go on, best first: by total, then by hypothesis, then by the token's own log-probability, then id."""
    found = []
    for place, ((prefix, total), log_probabilities) in enumerate(zip(live, distributions, strict=True)):
        for token_id, log_probability in enumerate(log_probabilities):
            if log_probability > -math.inf and (may_end or token_id != EOS):
                found.append((-(total + log_probability), place, -log_probability, token_id, prefix))
    return sorted(found)


class TableState:
    """Prefixes of all rows, for a step that looks its distributions up."""

    def __init__(self, num_sentences: int) -> None:
        self.rows: list[tuple[int, Prefix]] = [(sentence, ()) for sentence in range(num_sentences)]
        self.num_sentences = num_sentences
        self.length = 0

    def select(self, row_indices: Tensor) -> None:
        beam = len(row_indices) // self.num_sentences
        old_beam = len(self.rows) // self.num_sentences
        for new_row, old_row in enumerate(row_indices.tolist()):
            assert new_row // beam == old_row // old_beam, "a row may not move to another sentence"
        self.rows = [self.rows[row] for row in row_indices.tolist()]

    def keep_sentences(self, sentence_indices: Tensor) -> None:
        beam = len(self.rows) // self.num_sentences
        self.rows = [row for kept in sentence_indices.tolist() for row in self.rows[kept * beam : (kept + 1) * beam]]
        self.num_sentences = len(sentence_indices)


class TableStep:
    """A step over one distribution per sentence.

    Attributes:
        num_rows: how many rows each call had.
    """

    def __init__(self, distributions: Sequence[Distribution], num_candidates: int | None) -> None:
        self.distributions = distributions
        self.num_candidates = num_candidates
        self.num_rows: list[int] = []

    def __call__(self, token_ids: Tensor, state: TableState, totals: Totals) -> tuple[Candidates, TableState]:
        assert len(token_ids) == len(state.rows)
        self.num_rows.append(len(token_ids))
        if state.length > 0:
            tokens = token_ids.tolist()
            state.rows = [
                (sentence, (*prefix, token)) for (sentence, prefix), token in zip(state.rows, tokens, strict=True)
            ]
        else:
            assert token_ids.tolist() == [BOS] * len(token_ids)
        state.length += 1
        rows = [list(self.distributions[sentence](prefix)) for sentence, prefix in state.rows]
        log_probabilities = torch.tensor(rows, dtype=torch.float32)
        end = log_probabilities[:, EOS]
        vocabulary = log_probabilities.size(1)
        if self.num_candidates is None:
            return Candidates(torch.arange(vocabulary).expand_as(log_probabilities), log_probabilities, end), state
        if totals is not None:
            return self._of_sentences(log_probabilities, totals, state.num_sentences), state
        ids, best = best_candidates(log_probabilities, min(self.num_candidates, vocabulary))
        return Candidates(ids, best, end), state

    def _of_sentences(self, log_probabilities: Tensor, totals: Tensor, num_sentences: int) -> Candidates:
        """Sort all continuations of each sentence."""
        vocabulary = log_probabilities.size(1)
        sums = (totals[:, None] + log_probabilities).view(num_sentences, -1)
        places = sums.sort(dim=1, descending=True, stable=True).indices[:, : self.num_candidates].sort(dim=1).values
        return Candidates(
            places % vocabulary,
            log_probabilities.view(num_sentences, -1).gather(1, places),
            log_probabilities[:, EOS],
            places // vocabulary,
            log_probabilities.argmax(dim=1) == EOS,
        )


def search_tables(
    distributions: Sequence[Distribution], config: SearchConfig, limits: Sequence[int], first_line: int = 1
) -> list[list[Hypothesis]]:
    """Run our search over one table per sentence."""
    strategy: GreedySearch | BeamSearch
    if config.sample:
        sources = [random_source(config.seed, first_line + line, 0, 0) for line in range(len(limits))]
        strategy = Sampling(config, BOS, EOS, limits, sources)
    elif config.beam_size > 1:
        strategy = BeamSearch(config, BOS, EOS, limits)
    else:
        strategy = GreedySearch(config, BOS, EOS, limits)
    step = TableStep(distributions, strategy.num_candidates)
    return search(step, TableState(len(limits)), strategy, torch.device("cpu"))


def random_table(seed: int, vocabulary: int, sharpness: float = 2.0, end_bias: float = 0.0) -> Distribution:
    """A distribution that is random but the same for the same prefix, in float32 steps."""
    cache: dict[Prefix, list[float]] = {}

    def distribution(prefix: Prefix) -> list[float]:
        if prefix not in cache:
            generator = torch.Generator().manual_seed(hash((seed, *prefix)) % (1 << 31))
            logits = torch.randn(vocabulary, generator=generator) * sharpness
            logits[EOS] += end_bias
            logits[:2] = -torch.inf  # pad and bos
            cache[prefix] = [float(value) for value in torch.log_softmax(logits, dim=0)]
        return cache[prefix]

    return distribution


def coarse_table(seed: int, vocabulary: int, levels: int) -> Distribution:
    """A distribution with many equal log-probabilities, all multiples of 1/4, which every sum keeps exactly."""

    def distribution(prefix: Prefix) -> list[float]:
        generator = torch.Generator().manual_seed(hash((seed, *prefix)) % (1 << 31))
        values = (-torch.randint(1, levels + 1, (vocabulary,), generator=generator) / 4).tolist()
        return [-math.inf, -math.inf, *values[2:]]

    return distribution
