"""Rules on the next token: what a translation must begin with, must not contain and should not repeat.

A rule looks at what a row has written and changes the log-probabilities of its next token before the best are picked.
What a rule forbids gets minus infinity; the log-probabilities of the others stay the model's own, but for those that
the repetition penalty makes smaller.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from transformer_core.decoding.config import SearchConfig

__all__ = ["Guidance", "Guide", "Written"]

NOTHING_FORCED = -1


@dataclass(frozen=True, kw_only=True)
class Guide:
    """What is asked of the translation of one sentence, in tokens."""

    prefix: tuple[int, ...] = ()  # it begins with these
    avoid: tuple[tuple[int, ...], ...] = ()  # none of these stands in it

    @property
    def asks_anything(self) -> bool:
        """Whether there is anything to heed."""
        return bool(self.prefix or self.avoid)


class Written:
    """What every row has written so far; goes along with the rows when a search reorders and drops them."""

    def __init__(self, num_sentences: int, device: torch.device) -> None:
        self.token_ids = torch.empty(num_sentences, 0, dtype=torch.int64, device=device)  # (rows, length), bos first
        self.sentences = torch.arange(num_sentences, device=device)  # (rows,), as they were numbered at the start

    def append(self, token_ids: Tensor) -> None:
        """Note one more token of every row, (rows,) int64."""
        self.token_ids = torch.cat((self.token_ids, token_ids[:, None]), dim=1)

    def select(self, row_indices: Tensor) -> None:
        """Continue other rows, (next rows,) int64."""
        self.token_ids = self.token_ids.index_select(0, row_indices)
        self.sentences = self.sentences.index_select(0, row_indices)


class Guidance:
    """The rules of one batch."""

    def __init__(
        self, config: SearchConfig, guides: Sequence[Guide], banned_ids: Sequence[int], num_free: int = 0
    ) -> None:
        """Prepare.

        Args:
            config: its repetition_penalty and no_repeat_ngram.
            guides: of every sentence.
            banned_ids: tokens that no translation contains but in its prefix.
            num_free: tokens of each prefix that are certain: their log-probability is 0.
        """
        self._repetition_penalty = config.repetition_penalty
        self._ngram = config.no_repeat_ngram
        self._guides = guides
        self._num_free = num_free
        self._banned_ids = torch.tensor(banned_ids, dtype=torch.int64)
        longest = max(len(guide.prefix) for guide in guides)
        padding = [NOTHING_FORCED]
        # (sentences, longest prefix)
        self._prefixes = torch.tensor(
            [[*guide.prefix, *padding * (longest - len(guide.prefix))] for guide in guides], dtype=torch.int64
        ).view(len(guides), longest)
        self._has_phrases = any(guide.avoid for guide in guides)

    def apply(self, log_probabilities: Tensor, token_ids: Tensor, sentences: Tensor) -> None:
        """Change log-probabilities in place.

        Args:
            log_probabilities: (rows, vocabulary) float32, the model's.
            token_ids: (rows, length) int64, what each row has written, bos first.
            sentences: (rows,) int64, whose guide each row follows.
        """
        forced = self._forced(token_ids.size(1) - 1, sentences)
        forced_log_probabilities = log_probabilities.gather(1, forced.clamp(min=0)[:, None])
        if token_ids.size(1) <= self._num_free:
            forced_log_probabilities.zero_()
        log_probabilities.index_fill_(1, self._banned_ids.to(log_probabilities.device), -torch.inf)
        if self._repetition_penalty != 1.0:
            self._penalize_repetition(log_probabilities, token_ids)
        if self._ngram:
            self._ban_ngrams(log_probabilities, token_ids)
        if self._has_phrases:
            self._ban_phrases(log_probabilities, token_ids, sentences)
        is_forced = forced != NOTHING_FORCED
        if is_forced.any():
            log_probabilities[is_forced] = -torch.inf
            log_probabilities[is_forced, forced[is_forced]] = forced_log_probabilities[is_forced, 0]

    def _forced(self, length: int, sentences: Tensor) -> Tensor:
        """Give the token that the prefix of each row has at this place, (rows,) int64; NOTHING_FORCED after its end."""
        if length >= self._prefixes.size(1):
            return torch.full_like(sentences, NOTHING_FORCED)
        return self._prefixes[:, length].to(sentences.device)[sentences]

    def _penalize_repetition(self, log_probabilities: Tensor, token_ids: Tensor) -> None:
        """Multiply the log-probabilities of all tokens that were written (Keskar et al. 2019)."""
        penalized = log_probabilities.gather(1, token_ids) * self._repetition_penalty
        log_probabilities.scatter_(1, token_ids, penalized)

    def _ban_ngrams(self, log_probabilities: Tensor, token_ids: Tensor) -> None:
        """Ban tokens that would complete an n-gram for the second time (Paulus et al. 2018)."""
        size = self._ngram
        written = token_ids[:, 1:]
        if written.size(1) < size:
            return
        ngrams = written.unfold(1, size, 1)  # (rows, length - size + 1, size)
        beginning = written[:, written.size(1) - size + 1 :]  # (rows, size - 1)
        is_begun = (ngrams[:, :, :-1] == beginning[:, None]).all(dim=2)
        banned = torch.where(is_begun, ngrams[:, :, -1], self._banned_ids[0].item())  # which is banned in any case
        log_probabilities.scatter_(1, banned, -torch.inf)

    def _ban_phrases(self, log_probabilities: Tensor, token_ids: Tensor, sentences: Tensor) -> None:
        """Ban the last token of a phrase after its others."""
        rows = zip(token_ids.tolist(), sentences.tolist(), strict=True)
        banned = [
            (row, phrase[-1])
            for row, (written, sentence) in enumerate(rows)
            for phrase in self._guides[sentence].avoid
            if tuple(written[len(written) - len(phrase) + 1 :]) == phrase[:-1]
        ]
        for row, token_id in banned:
            log_probabilities[row, token_id] = -torch.inf
