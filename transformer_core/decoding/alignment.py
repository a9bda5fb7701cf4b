"""Which word of a line became which word of its translation, read off the cross-attention.

The pair is computed once more as a whole, and the weights of one layer, the mean of its heads, say of every target
token what it was made of. Of the layers the last but one is taken, whose mean has been found to align best (Garg et al.
2019). The weight between two words is the sum over their tokens; each target word is aligned with the source word that
has the most.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tokenizer import Tokenizer
from tokenizer.word_edges import Edge
from transformer_core.attention_walk import walk
from transformer_core.data.padding import pad
from transformer_core.decoding.batching import BatchRunner
from transformer_core.decoding.config import BatchConfig
from transformer_core.decoding.encoding import encode_lines
from transformer_core.decoding.linear import for_decoding
from transformer_core.decoding.step import decoding_mode
from transformer_core.model import Transformer
from transformer_core.model_files import require_decoder

__all__ = ["Aligner", "Alignment", "words_of"]

Alignment = tuple[tuple[int, int], ...]  # of source and target words, counted from 0, in the order of the target
NO_WORD = -1


class Aligner:
    """Aligns lines with their translations.

    Args:
        model: computes, wherever it is.
        source_tokenizer: of the lines.
        target_tokenizer: of the translations.
        batching: size of the batches and precision; BatchConfig() if not given.
        place: says where a line stands, by its number, for messages: "file:line".

    Attributes:
        runner: puts pairs into batches.

    Raises:
        ModelError: the model has no decoder.
    """

    def __init__(
        self,
        model: Transformer,
        source_tokenizer: Tokenizer,
        target_tokenizer: Tokenizer,
        batching: BatchConfig | None = None,
        place: Callable[[int], str] = "input:{}".format,
    ) -> None:
        require_decoder(model.config)
        self._source_tokenizer = source_tokenizer
        self._target_tokenizer = target_tokenizer
        self._batching = batching or BatchConfig()
        self._model = for_decoding(model, self._batching.precision)
        self._place = place
        self.runner = BatchRunner(self._batching)

    def align(self, pairs: Sequence[tuple[str, Sequence[int]]], line_numbers: Sequence[int]) -> list[Alignment]:
        """Align lines with the tokens of their translations; what the model cannot take at once is left out.

        Args:
            pairs: a line and the ids of its translation, end tokens aside.
            line_numbers: of the lines in the whole input, for messages.

        Raises:
            OutOfMemoryError: there is no memory for one pair alone.
        """
        limit = int(min(self._batching.max_source_length, self._model.config.max_length))
        sources = encode_lines(self._source_tokenizer, [line for line, _ in pairs])
        ids = [(source[:limit], list(target[:limit])) for source, (_, target) in zip(sources, pairs, strict=True)]
        places = [index for index, (source, target) in enumerate(ids) if source and target]
        with decoding_mode(self._model.device, self._batching.precision):
            found = self.runner.run(
                [len(ids[index][0]) + len(ids[index][1]) + 2 for index in places],
                lambda batch: self._align([ids[places[index]] for index in batch]),
                lambda index: self._place(line_numbers[places[index]]),
            )
        alignments: list[Alignment] = [()] * len(pairs)
        for index, alignment in zip(places, found, strict=True):
            alignments[index] = alignment
        return alignments

    def _align(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[Alignment]:
        """Align token ids, all at once."""
        tokenizer, device = self._target_tokenizer, self._model.device
        source, mask = pad([[*ids, tokenizer.eos_id] for ids, _ in pairs], tokenizer.pad_id, device)
        target_input, _ = pad([[tokenizer.bos_id, *ids] for _, ids in pairs], tokenizer.pad_id, device)
        of_layers = walk(self._model, source, mask, target_input).weights["cross"]
        # (layers, batch, num_heads, target_length, source_length) -> (batch, target_length, source_length)
        weights = of_layers[-min(2, of_layers.size(0))].mean(dim=1).cpu()
        return [
            best_words(
                weights[index, : len(target_ids), : len(source_ids)],
                words_of(self._source_tokenizer, source_ids),
                words_of(tokenizer, target_ids),
            )
            for index, (source_ids, target_ids) in enumerate(pairs)
        ]


def words_of(tokenizer: Tokenizer, token_ids: Sequence[int]) -> list[int]:
    """Give the word, counted from 0, that each token is a part of; NO_WORD for a tag, and for a space by itself."""
    edges, tags = tokenizer.word_edges, set(tokenizer.tags.values())
    words: list[int] = []
    word = NO_WORD
    is_space_before = True  # at the beginning of a line
    for token_id in token_ids:
        if token_id in tags:
            words.append(NO_WORD)
            continue
        is_space = edges.left[token_id] == Edge.SPACE and edges.right[token_id] == Edge.OPEN
        if not is_space and (is_space_before or edges.left[token_id] == Edge.SPACE):
            word += 1
        words.append(NO_WORD if is_space else word)
        is_space_before = is_space
    return words


def best_words(weights: Tensor, source_words: Sequence[int], target_words: Sequence[int]) -> Alignment:
    """Align each target word with the source word that has the most weight.

    Args:
        weights: (target_length, source_length), of tokens.
        source_words: the word of each source token.
        target_words: the word of each target token.
    """
    by_source = _sums(weights.T, source_words).T  # (target_length, source words)
    by_words = _sums(by_source, target_words)  # (target words, source words)
    if not by_words.numel():
        return ()
    return tuple((int(source), target) for target, source in enumerate(by_words.argmax(dim=1)))


def _sums(rows: Tensor, words: Sequence[int]) -> Tensor:
    """Sum the rows of each word: (tokens, n) -> (words, n)."""
    sums = torch.zeros(max(words, default=NO_WORD) + 1, rows.size(1), dtype=rows.dtype)
    places = torch.tensor([place for place, word in enumerate(words) if word != NO_WORD], dtype=torch.int64)
    numbers = torch.tensor([word for word in words if word != NO_WORD], dtype=torch.int64)
    return sums.index_add(0, numbers, rows[places])
