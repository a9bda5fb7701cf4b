"""The best tokens of a whole vocabulary, of every row or of the rows of a sentence together.

In two stages, faster than one over all: the best chunks by their maximum, then the best tokens inside them. No token of
another chunk can be among the best: each chosen chunk holds one before it.
"""

import torch
from torch import Tensor

__all__ = ["FEW_ROWS", "best_candidates", "best_continuations"]

# Tokens per chunk of the two-stage selection: the fastest of 64 to 128 for 7, 10 and 32 thousand tokens. torch's `topk`
# of the ten candidates of beam search sorts a part of 960 values, but all of 640.
CHUNK_TOKENS = 96
# Up to so many rows one stage is the faster one: it is a single operation.
FEW_ROWS = 4


def best_candidates(log_probabilities: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Find the best tokens of every row, the lower id first where two are equal.

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
    """Find the best continuations of all hypotheses of every sentence together.

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
