"""Fill the masks of lines: a masked language model (BERT, Devlin et al. 2019) predicts each, a denoising one rewrites.

Every mask is predicted by itself, from the line as it was given. A candidate fits the spaces of the line: after a space
a token that begins a word, elsewhere one that does not. Special and unknown tokens, parts of characters and what cannot
be seen are none. Its probability is the model's own, over the whole vocabulary.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from tokenizer import Tokenizer
from tokenizer.masked_text import MaskedLine, MaskedLineEncoder, encode_masked_line
from tokenizer.special_tokens import SPECIAL_TOKENS
from tokenizer.word_edges import Edge
from transformer_core.data.padding import pad
from transformer_core.decoding.batching import BatchRunner
from transformer_core.decoding.best_tokens import best_candidates
from transformer_core.decoding.config import BatchConfig, SearchConfig
from transformer_core.decoding.finite import require_finite
from transformer_core.decoding.linear import for_decoding
from transformer_core.decoding.step import decoding_mode
from transformer_core.decoding.translator import Translator
from transformer_core.errors import ModelError
from transformer_core.model import Transformer

__all__ = ["Candidate", "FilledLine", "Filler", "Rewriter", "masked_hidden"]

PROJECTED_MASKS = 1024  # masks whose logits stand in memory at once
_NO_CHARACTER = "\ufffd"


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """What may stand in the place of a mask."""

    token: str  # as text, without the space before it
    probability: float  # the model's, given the rest of the line


@dataclass(frozen=True, kw_only=True)
class FilledLine:
    """What became of a line."""

    text: str  # with the best candidate in the place of each mask
    masks: tuple[tuple[Candidate, ...], ...] = ()  # the candidates of each mask, best first
    is_cut: bool = False  # the line was too long to be seen at once: each mask was predicted from a part of it
    is_truncated: bool = False  # a line that was written anew was ended by the length limit


class Filler:
    """Fills masks with a pretrained encoder.

    Args:
        model: computes, wherever it is.
        tokenizer: of the lines.
        top_k: candidates for each mask.
        batching: size of the batches, precision, and how much of a line is seen at once; BatchConfig() if not given.
        name: what messages call the input.

    Raises:
        ModelError: the model is none that predicts masked tokens.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        top_k: int = 1,
        batching: BatchConfig | None = None,
        name: str = "input",
    ) -> None:
        if not model.config.is_encoder_only:
            raise ModelError(
                "the model was not pretrained to predict masked tokens; `transduce pretrain` makes one that is"
            )
        self._tokenizer = tokenizer
        self._top_k = top_k
        self._batching = batching or BatchConfig()
        self._model = for_decoding(model, self._batching.precision)
        self._name = name
        self._runner = BatchRunner(self._batching)
        self._max_length = int(min(self._batching.max_source_length, model.config.max_length))

    @property
    def num_halvings(self) -> int:
        """How often memory ran out and the batches were made smaller."""
        return self._runner.num_halvings

    def fill(self, lines: Sequence[str], first_line_number: int = 1) -> list[FilledLine]:
        """Fill the masks of lines; what becomes of one does not depend on the others.

        Args:
            lines: without their ends; one without a mask comes back as it is.
            first_line_number: place of the first one in the whole input, for messages.

        Raises:
            OutOfMemoryError: there is no memory for one line alone.
            ModelError: the model computes no probabilities, but NaN.
        """

        def place(index: int) -> str:
            return f"{self._name}:{first_line_number + index}"

        encoded = [encode_masked_line(self._tokenizer, line) for line in lines]
        pieces = [  # the index of the line, the tokens that are seen at once, and what fits their masks
            (index, token_ids, fits) for index, line in enumerate(encoded) for token_ids, fits in self._cut(line)
        ]
        with decoding_mode(self._model.device, self._batching.precision):
            found = self._runner.run(
                [len(token_ids) + 1 for _, token_ids, _ in pieces],
                lambda batch: self._predict([pieces[piece][1:] for piece in batch]),
                lambda piece: place(pieces[piece][0]),
            )
        masks: list[list[tuple[Candidate, ...]]] = [[] for _ in lines]
        for (index, _, _), candidates in zip(pieces, found, strict=True):
            require_finite([each.probability for of_mask in candidates for each in of_mask], place(index))
            masks[index] += candidates
        return [
            FilledLine(
                text=line.filled([candidates[0].token for candidates in of_line]),
                masks=tuple(of_line),
                is_cut=line.num_masks > 0 and len(line.token_ids) > self._max_length,
            )
            for line, of_line in zip(encoded, masks, strict=True)
        ]

    def _cut(self, line: MaskedLine) -> list[tuple[list[int], list[bool | None]]]:
        """Cut a line into pieces that the model can take, each with what its masks hide; only those with masks."""
        begins_word = iter(line.begins_word)
        pieces = []
        for start in range(0, len(line.token_ids), self._max_length):
            token_ids = line.token_ids[start : start + self._max_length]
            if num_masks := token_ids.count(self._tokenizer.mask_id):
                pieces.append((token_ids, [next(begins_word) for _ in range(num_masks)]))
        return pieces

    def _predict(self, pieces: Sequence[tuple[list[int], list[bool | None]]]) -> list[list[tuple[Candidate, ...]]]:
        """Find the candidates of every mask of one batch."""
        hidden = masked_hidden(self._model, self._tokenizer, [token_ids for token_ids, _ in pieces])
        fits = [place for _, places in pieces for place in places]
        found: list[tuple[Candidate, ...]] = []
        for start in range(0, len(fits), PROJECTED_MASKS):
            masks = slice(start, start + PROJECTED_MASKS)
            log_probabilities = torch.log_softmax(self._model.project(hidden[masks]), dim=-1, dtype=torch.float32)
            unfit = torch.stack([self._unfit[place] for place in fits[masks]]).to(log_probabilities.device)
            width = min(self._top_k, log_probabilities.size(1))
            ids, best = best_candidates(log_probabilities.masked_fill(unfit, -torch.inf), width)
            found += map(self._candidates, ids.tolist(), best.double().tolist())
        in_order = iter(found)
        return [[next(in_order) for _ in places] for _, places in pieces]

    def _candidates(self, ids: list[int], log_probabilities: list[float]) -> tuple[Candidate, ...]:
        return tuple(
            Candidate(token=self._texts[index], probability=math.exp(log_probability))
            for index, log_probability in zip(ids, log_probabilities, strict=True)
            if log_probability != -math.inf  # else it does not fit
        )

    @cached_property
    def _texts(self) -> list[str]:
        """Each token as text."""
        return self._tokenizer.decode_batch([[index] for index in range(self._tokenizer.vocabulary_size)])

    @cached_property
    def _unfit(self) -> dict[bool | None, Tensor]:
        """Which tokens do not fit a mask, (vocabulary,) bool: one that begins a word, one that does not, any."""
        is_no_text = torch.tensor([not _can_be_seen(text) for text in self._texts])
        is_no_text[: len(SPECIAL_TOKENS)] = True
        has_space = torch.tensor([edge == Edge.SPACE for edge in self._tokenizer.word_edges.left])
        unfit: dict[bool | None, Tensor] = {True: is_no_text | ~has_space, False: is_no_text | has_space}
        # of a vocabulary that has nothing of a kind, anything is better than nothing
        return {None: is_no_text} | {key: is_no_text if bool(flags.all()) else flags for key, flags in unfit.items()}


class Rewriter:
    """Fills masks with a denoising model, which writes the whole line anew: for a mask nothing, a word or several.

    Args:
        model: computes, wherever it is.
        tokenizer: of the lines.
        config: the search.
        batching: size of the batches, long lines, precision; BatchConfig() if not given.
        name: what messages call the input.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        config: SearchConfig | None = None,
        batching: BatchConfig | None = None,
        name: str = "input",
    ) -> None:
        self._tokenizer = tokenizer
        encoder = MaskedLineEncoder(tokenizer)
        self._translator = Translator(model, encoder, tokenizer, config, batching, lambda number: f"{name}:{number}")

    @property
    def num_halvings(self) -> int:
        """How often memory ran out and the batches were made smaller."""
        return self._translator.num_halvings

    def fill(self, lines: Sequence[str], first_line_number: int = 1) -> list[FilledLine]:
        """Write lines anew, as `Filler.fill`; they have no candidates, and one without a mask comes back as it is."""
        has_mask = [encode_masked_line(self._tokenizer, line).num_masks > 0 for line in lines]
        # a blank line stands for one that is not asked for: the numbers of the lines stay what they are
        asked = [line if is_asked else "" for line, is_asked in zip(lines, has_mask, strict=True)]
        return [
            FilledLine(text=found.text, is_cut=found.is_split, is_truncated=found.is_truncated)
            if is_asked
            else FilledLine(text=line)
            for line, is_asked, found in zip(
                lines, has_mask, self._translator.translate(asked, first_line_number), strict=True
            )
        ]


def _can_be_seen(text: str) -> bool:
    """Tell whether a token is text: whole characters, and one at least that is neither white space nor control."""
    return _NO_CHARACTER not in text and any(character.isprintable() for character in text.strip())


def masked_hidden(model: Transformer, tokenizer: Tokenizer, rows: Sequence[Sequence[int]]) -> Tensor:
    """Encode lines and give what stands at their masks.

    Args:
        model: an encoder, in evaluation mode.
        tokenizer: of the lines.
        rows: ids of each line, without its end token.

    Returns:
        (masks, d_model), row by row; `model.project` makes logits of it.
    """
    source, source_mask = pad([[*row, tokenizer.eos_id] for row in rows], tokenizer.pad_id, model.device)
    return model.encode(source, source_mask)[source == tokenizer.mask_id]
