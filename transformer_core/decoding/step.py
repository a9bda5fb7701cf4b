"""A model, or several, as the step function of a search: the last token of every row in, its best continuations out."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Self

import torch
from torch import Tensor

from transformer_core.decoding.best_tokens import best_candidates, best_continuations
from transformer_core.decoding.config import Precision
from transformer_core.decoding.guidance import Guidance, Written
from transformer_core.decoding.linear import compute_dtype
from transformer_core.decoding.search import Candidates, Totals
from transformer_core.decoding.shortlisted import Shortlisted
from transformer_core.model import DecoderState, Transformer

__all__ = ["ModelStep", "StepState", "decoding_mode"]

# Logits that stand in memory at once. On a CPU 4 MiB of them stay in its cache, and the allocator keeps the block; more
# of them it gives back and faults in again, page by page, which can take longer than the product itself.
CPU_LOGITS_AT_ONCE = 1 << 20
DEVICE_LOGITS_AT_ONCE = 1 << 27


class StepState:
    """What a step remembers: where the decoder of each model stands, and for rules what the rows have written.

    With a shortlist also the tokens among which its sentences choose.
    """

    def __init__(
        self, decoders: Sequence[DecoderState], written: Written | None, shortlisted: Shortlisted | None = None
    ) -> None:
        self.decoders = decoders
        self.written = written
        self.shortlisted = shortlisted

    @property
    def beam(self) -> int:
        """Rows of a sentence."""
        return self.decoders[0].ancestry.beam

    def select(self, row_indices: Tensor) -> None:
        """Reorder or repeat rows within their sentences; row_indices: (next rows,) int64."""
        for decoder in self.decoders:
            decoder.select(row_indices)
        if self.written is not None:
            self.written.select(row_indices)

    def keep_sentences(self, sentence_indices: Tensor) -> None:
        """Drop all sentences but these, (sentences that stay,) int64, with all their rows."""
        row_indices = self.decoders[0].ancestry.rows_of(sentence_indices)
        for decoder in self.decoders:
            decoder.keep_sentences(sentence_indices)
        if self.shortlisted is not None:
            self.shortlisted.keep_sentences(sentence_indices)
        if self.written is not None:
            self.written.select(row_indices)

    def merge(self, other: Self) -> None:
        """Put the sentences of another state after these; neither may follow rules."""
        assert self.written is None and other.written is None
        for decoder, other_decoder in zip(self.decoders, other.decoders, strict=True):
            decoder.merge(other_decoder)
        if self.shortlisted is not None and other.shortlisted is not None:
            self.shortlisted = self.shortlisted.merged(other.shortlisted)


class ModelStep:
    """Feed one token per row to a model and pick the best continuations beside its output projection.

    Of several models (an ensemble) the mean of their probabilities counts.

    Args:
        models: compute; of one target vocabulary, on one device.
        eos_id: the end token, whose log-probability is always given.
        banned_ids: tokens that are never produced; the probabilities of the others stay as they are.
        num_candidates: how many continuations to give per row; None for all, ordered by id.
        guidance: rules on the next token; it bans, too.
        is_normalized: give log-probabilities. Without, of one model alone, its logits: they are in the same order, and
            the sum over the vocabulary is saved.
    """

    def __init__(
        self,
        models: Sequence[Transformer],
        eos_id: int,
        banned_ids: Sequence[int],
        num_candidates: int | None,
        guidance: Guidance | None = None,
        *,
        is_normalized: bool = True,
    ) -> None:
        self._models = models
        self._is_normalized = is_normalized or len(models) > 1
        self._eos_id = eos_id
        self._num_candidates = num_candidates
        self._guidance = guidance
        device = models[0].device
        self._banned_ids = torch.tensor(banned_ids, dtype=torch.int64, device=device)
        self._logits_at_once = CPU_LOGITS_AT_ONCE if device.type == "cpu" else DEVICE_LOGITS_AT_ONCE
        self._vocabulary = models[0].config.target_vocabulary_size

    def start(
        self,
        memories: Sequence[Tensor],
        source_mask: Tensor | None,
        candidates: tuple[Tensor, Tensor] | None = None,
    ) -> StepState:
        """Prepare to decode, one row per sentence.

        Args:
            memories: of each model, (batch, source_length, d_model).
            source_mask: (batch, source_length) bool; None where nothing is padded.
            candidates: sentences, (n,) int64, and a token that each of them may produce, (n,) int64; the end token is
                one of every sentence. None where they may produce all.
        """
        decoders = [model.start(memory, source_mask) for model, memory in zip(self._models, memories, strict=True)]
        batch, device = memories[0].size(0), memories[0].device
        shortlisted = None
        if candidates is not None:
            shortlisted = Shortlisted(self._models, candidates, batch, self._eos_id, self._banned_ids)
        written = None if self._guidance is None else Written(batch, device)
        return StepState(decoders, written, shortlisted)

    def __call__(self, token_ids: Tensor, state: StepState, totals: Totals) -> tuple[Candidates, StepState]:
        """Advance `state` by token_ids, (rows,) int64; `totals` of the rows where those of a sentence compete."""
        if state.written is not None:
            state.written.append(token_ids)
        hidden = [  # of each model, (rows, d_model)
            model.step(token_ids, decoder) for model, decoder in zip(self._models, state.decoders, strict=True)
        ]
        width = self._vocabulary if state.shortlisted is None else state.shortlisted.num_columns
        num_rows = token_ids.size(0)
        behind = None if totals is None else _behind(totals, state.beam).to(token_ids.device)
        at_once = max(1, self._logits_at_once // (width * state.beam)) * state.beam  # rows, of whole sentences
        if num_rows <= at_once:
            return self._candidates(hidden, slice(None), state, behind), state
        parts = []
        for row in range(0, num_rows, at_once):
            rows = slice(row, row + at_once)
            of_rows = None if behind is None else behind[row // state.beam : (row + at_once) // state.beam]
            parts.append(self._candidates([of_model[rows] for of_model in hidden], rows, state, of_rows))
        return Candidates.joined(parts), state

    def _candidates(self, hidden: Sequence[Tensor], rows: slice, state: StepState, behind: Tensor | None) -> Candidates:
        """Project rows and pick.

        Args:
            hidden: of each model, (rows, d_model).
            rows: which of the state they are.
            state: after this step.
            behind: (sentences, beam), see `best_continuations`; None where each row is for itself.
        """
        shortlisted = state.shortlisted
        if shortlisted is None:
            logits = [model.project(of_model) for model, of_model in zip(self._models, hidden, strict=True)]
        else:
            logits = shortlisted.project(hidden, rows.start or 0, state.beam)
        log_probabilities = self._log_probabilities(logits)
        if shortlisted is not None and (self._guidance is not None or self._num_candidates is None):
            log_probabilities = shortlisted.spread(log_probabilities)  # rules and these searches know tokens by id
            shortlisted = None
        end_column, banned_columns = self._eos_id, self._banned_ids
        if shortlisted is not None:
            end_column, banned_columns = shortlisted.end_column, shortlisted.banned_columns
        end = log_probabilities[:, end_column].cpu()
        if self._guidance is None or state.written is None:
            log_probabilities.index_fill_(1, banned_columns, -torch.inf)
        else:
            self._guidance.apply(log_probabilities, state.written.token_ids[rows], state.written.sentences[rows])
        width = log_probabilities.size(1)
        if self._num_candidates is None:
            return Candidates(torch.arange(width).expand_as(log_probabilities), log_probabilities.cpu(), end)
        if behind is None:
            ids, best = best_candidates(log_probabilities, min(self._num_candidates, width))
            if shortlisted is not None:
                ids = shortlisted.token_ids[ids]
            return Candidates(ids.cpu(), best.cpu(), end)
        of_sentences = log_probabilities.view(-1, state.beam, width)
        parents, ids, best, best_of_rows = best_continuations(of_sentences, behind, self._num_candidates)
        would_end = log_probabilities[:, end_column] == best_of_rows.flatten()
        if shortlisted is not None:
            ids = shortlisted.token_ids[ids]
        return Candidates(ids.cpu(), best.cpu(), end, parents.cpu(), would_end.cpu())

    def _log_probabilities(self, logits: Sequence[Tensor]) -> Tensor:
        """(rows, width) of each model -> (rows, width) float32, the logarithm of the mean probability."""
        if not self._is_normalized:
            return logits[0].float()
        of_models = [torch.log_softmax(of_model, dim=-1, dtype=torch.float32) for of_model in logits]
        if len(of_models) == 1:
            return of_models[0]
        return torch.logsumexp(torch.stack(of_models), dim=0) - math.log(len(of_models))


@contextmanager
def decoding_mode(device: torch.device, precision: Precision) -> Iterator[None]:
    """Let a model that was made ready by `for_decoding` compute while the block runs: no gradients."""
    dtype = compute_dtype(precision, device)
    is_cast = device.type != "cpu" and dtype != torch.float32
    with torch.inference_mode(), torch.autocast(device.type, dtype=dtype, enabled=is_cast):
        yield


def _behind(totals: Tensor, beam: int) -> Tensor:
    """How far each hypothesis is behind the best of its sentence: (rows,) float64 -> (sentences, beam) float32."""
    of_sentences = totals.view(-1, beam)
    best = of_sentences.amax(dim=1, keepdim=True).clamp(min=torch.finfo(totals.dtype).min)  # where none is alive
    return (of_sentences - best).float()
