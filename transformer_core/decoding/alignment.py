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
from transformer_core.decoding.encoding import TextPiece, cut_line, encode_lines
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

    def align(
        self, pairs: Sequence[tuple[str, Sequence[Sequence[int]]]], line_numbers: Sequence[int]
    ) -> list[Alignment]:
        """Align lines with the tokens of their translations, each piece of a long line by itself.

        Args:
            pairs: a line and the ids of the translations of its pieces, end tokens aside.
            line_numbers: of the lines in the whole input, for messages.

        Raises:
            OutOfMemoryError: there is no memory for one pair alone.
        """
        encoded = encode_lines(self._source_tokenizer, [line for line, _ in pairs])
        cut = [self._cut(line, token_ids) for (line, _), token_ids in zip(pairs, encoded, strict=True)]
        pieces = [
            (index, source.token_ids, list(target))
            for index, (sources, (_, targets)) in enumerate(zip(cut, pairs, strict=True))
            for source, target in zip(sources, targets, strict=True)
        ]
        with decoding_mode(self._model.device, self._batching.precision):
            found = iter(
                self.runner.run(
                    [len(source) + len(target) + 2 for _, source, target in pieces],
                    lambda batch: self._align([pieces[piece][1:] for piece in batch]),
                    lambda piece: self._place(line_numbers[pieces[piece][0]]),
                )
            )
        return [
            self._joined(sources, targets, [next(found) for _ in sources])
            for sources, (_, targets) in zip(cut, pairs, strict=True)
        ]

    def _cut(self, line: str, token_ids: list[int]) -> list[TextPiece]:
        """Cut a line where Translator does."""
        limit = int(min(self._batching.max_source_length, self._model.config.max_length))
        return cut_line(self._source_tokenizer, line, token_ids, limit, self._batching.long_input)

    def _joined(
        self, sources: Sequence[TextPiece], targets: Sequence[Sequence[int]], alignments: Sequence[Alignment]
    ) -> Alignment:
        """Number the words of pieces as those of the whole line; one that was cut through may be aligned twice."""
        if len(sources) == 1:
            return alignments[0]
        separators = [source.separator for source in sources]
        texts = self._target_tokenizer.decode_batch(list(map(list, targets)))
        first_sources = first_words(separators, [source.text for source in sources])
        first_targets = first_words(separators, texts)
        moved = [
            (first_source + source, first_target + target)
            for first_source, first_target, alignment in zip(first_sources, first_targets, alignments, strict=True)
            for source, target in alignment
        ]
        return tuple(dict.fromkeys(moved))

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


def first_words(separators: Sequence[str], texts: Sequence[str]) -> list[int]:
    """Give the number, from 0, that the first word of each piece of a text has in the whole of it.

    >>> first_words(["", " ", ""], ["one two", "three fo", "ur"])
    [0, 2, 3]
    """
    numbers, before = [], ""
    for separator, text in zip(separators, texts, strict=True):
        before += separator
        is_cut_through = bool(before[-1:].strip() and text[:1].strip())
        numbers.append(len(before.split()) - is_cut_through)
        before += text
    return numbers


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
