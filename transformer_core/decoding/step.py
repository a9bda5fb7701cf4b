"""A model, or several, as the step function of a search: the last token of every row in, its best continuations out."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Self

import torch
from torch import Tensor

from transformer_core.decoding.config import Precision
from transformer_core.decoding.guidance import Guidance, Written
from transformer_core.decoding.linear import compute_dtype
from transformer_core.decoding.search import Candidates, Totals
from transformer_core.decoding.shortlisted import Shortlisted
from transformer_core.model import DecoderState, Transformer

__all__ = ["ModelStep", "StepState", "best_candidates", "best_continuations", "decoding_mode"]

# Tokens per chunk of the two-stage selection: the fastest of 64 to 128 for 7, 10 and 32 thousand tokens. torch's `topk`
# of the ten candidates of beam search sorts a part of 960 values, but all of 640.
CHUNK_TOKENS = 96
# Up to so many rows one stage is the faster one: it is a single operation.
FEW_ROWS = 4
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
        return self.decoders[0].num_rows // self.decoders[0].num_sentences

    def select(self, row_indices: Tensor) -> None:
        """Reorder or repeat rows within their sentences; row_indices: (next rows,) int64."""
        for decoder in self.decoders:
            decoder.select(row_indices)
        if self.written is not None:
            self.written.select(row_indices)

    def keep_sentences(self, sentence_indices: Tensor) -> None:
        """Drop all sentences but these, (sentences that stay,) int64, with all their rows."""
        beam = self.beam
        for decoder in self.decoders:
            decoder.keep_sentences(sentence_indices)
        if self.shortlisted is not None:
            self.shortlisted.keep_sentences(sentence_indices)
        if self.written is not None:
            rows = sentence_indices[:, None] * beam + torch.arange(beam, device=sentence_indices.device)
            self.written.select(rows.flatten())

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


def best_candidates(log_probabilities: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Find the best tokens of every row, the lower id first where two are equal.

    In two stages, faster than one over the whole vocabulary: the best chunks by their maximum, then the
    best tokens inside them. No token of another chunk can be among the best: each chosen chunk holds one before it.

    Args:
        log_probabilities: (rows, vocabulary) float32.
        width: how many, at most the vocabulary.

    Returns:
        Token ids, (rows, width) int64, and their log-probabilities, (rows, width) float32, best first.
    """
    rows, vocabulary = log_probabilities.shape
    num_chunks = vocabulary // CHUNK_TOKENS
    if num_chunks <= 2 * width or rows <= FEW_ROWS:
        return _ordered_top(log_probabilities, width)
    split = num_chunks * CHUNK_TOKENS
    # (rows, num_chunks * CHUNK_TOKENS) -> (rows, num_chunks, CHUNK_TOKENS)
    chunks = log_probabilities[:, :split].reshape(rows, num_chunks, CHUNK_TOKENS)
    best_chunks, _ = _ordered_top(chunks.amax(dim=2), width)  # (rows, width)
    best_chunks = best_chunks.sort(dim=1).values  # so that places inside them are in the order of the ids
    # the tokens of the chosen chunks and the few after the last chunk: (rows, width * CHUNK_TOKENS + rest)
    ids = (best_chunks[:, :, None] * CHUNK_TOKENS + torch.arange(CHUNK_TOKENS, device=chunks.device)).flatten(1)
    rest = torch.arange(split, vocabulary, device=chunks.device).expand(rows, -1)
    ids = torch.cat((ids, rest), dim=1)
    places, best = _ordered_top(log_probabilities.gather(1, ids), width)
    return ids.gather(1, places), best


def best_continuations(log_probabilities: Tensor, behind: Tensor, width: int) -> tuple[Tensor, ...]:
    """Find the best continuations of all hypotheses of every sentence together, in two stages as above.

    Of two that are equal the better hypothesis goes first, then the lower id; but what stands behind the last whole
    chunk of a hypothesis comes after the chunks of all.

    Args:
        log_probabilities: (sentences, beam, vocabulary) float32.
        behind: (sentences, beam) float32, the log-probability of each hypothesis less that of the best.
        width: how many, of all that there are.

    Returns:
        The hypotheses that they continue, and the tokens, both (sentences, width) int64, in the order of hypotheses and
        ids; the log-probabilities of these tokens, (sentences, width) float32; and that of the best token of each
        hypothesis, (sentences, beam) float32.
    """
    num_sentences, beam, vocabulary = log_probabilities.shape
    width = min(width, beam * vocabulary)
    num_chunks = vocabulary // CHUNK_TOKENS
    if beam * num_chunks <= 2 * width or num_sentences * beam <= FEW_ROWS:
        places, _ = _ordered_top((log_probabilities + behind[:, :, None]).flatten(1), width)
        best = log_probabilities.amax(dim=2)
    else:
        split = num_chunks * CHUNK_TOKENS
        # (sentences, beam, num_chunks * CHUNK_TOKENS) -> (sentences, beam, num_chunks, CHUNK_TOKENS)
        chunks = log_probabilities[:, :, :split].view(num_sentences, beam, num_chunks, CHUNK_TOKENS)
        maxima = chunks.amax(dim=3)
        best_chunks, _ = _ordered_top((maxima + behind[:, :, None]).flatten(1), width)
        best_chunks = best_chunks.sort(dim=1).values
        hypotheses = best_chunks // num_chunks
        sentences = torch.arange(num_sentences, device=behind.device)[:, None]
        # the chosen chunks, and the few tokens of each hypothesis after its last chunk, with their places
        inside = chunks[sentences, hypotheses, best_chunks % num_chunks] + behind.gather(1, hypotheses)[:, :, None]
        first = best_chunks * CHUNK_TOKENS + hypotheses * (vocabulary - split)
        places_inside = first[:, :, None] + torch.arange(CHUNK_TOKENS, device=behind.device)
        rest = log_probabilities[:, :, split:]
        after = rest + behind[:, :, None]
        places_after = torch.arange(0, beam * vocabulary, vocabulary, device=behind.device)[:, None]
        places_after = places_after + torch.arange(split, vocabulary, device=behind.device)
        found, _ = _ordered_top(torch.cat((inside.flatten(1), after.flatten(1)), dim=1), width)
        places = torch.cat((places_inside.flatten(1), places_after.flatten().expand(num_sentences, -1)), dim=1)
        places = places.gather(1, found)
        best = torch.cat((maxima, rest), dim=2).amax(dim=2)
    places = places.sort(dim=1).values
    return places // vocabulary, places % vocabulary, log_probabilities.flatten(1).gather(1, places), best


def _behind(totals: Tensor, beam: int) -> Tensor:
    """How far each hypothesis is behind the best of its sentence: (rows,) float64 -> (sentences, beam) float32."""
    of_sentences = totals.view(-1, beam)
    best = of_sentences.amax(dim=1, keepdim=True).clamp(min=torch.finfo(totals.dtype).min)  # where none is alive
    return (of_sentences - best).float()


def _ordered_top(values: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Find the `width` largest of each row of (rows, n) float32; of equals the first. Give their places and values."""
    if width == 1:
        best, places = values.max(dim=1, keepdim=True)  # the first of equals, says its documentation
        return places, best
    # `topk` promises no order among equals. Mostly there are none among the best and the one after them.
    best, places = values.topk(min(width + 1, values.size(1)), dim=1)
    if not bool((best[:, :-1] == best[:, 1:]).any()):
        return places[:, :width], best[:, :width]
    # Else no two may be equal: the value's bits, made to order like an integer, go in front of the place counted from
    # the end.
    bits = (values + 0.0).view(torch.int32)  # + 0.0 turns -0.0 into 0.0
    ordered = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits).to(torch.int64)
    keys = (ordered << 32) | torch.arange(values.size(1) - 1, -1, -1, device=values.device)
    places = values.size(1) - 1 - (keys.topk(width, dim=1).values & 0xFFFFFFFF)
    return places, values.gather(1, places)
