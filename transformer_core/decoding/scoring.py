"""The log-probability that a model gives to target lines that are there already, beside their source lines."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tokenizer import Tokenizer
from transformer_core.data.padding import pad
from transformer_core.decoding.batching import BatchRunner
from transformer_core.decoding.config import BatchConfig, SearchConfig
from transformer_core.decoding.encoding import encode_lines
from transformer_core.decoding.finite import require_finite
from transformer_core.decoding.linear import for_decoding
from transformer_core.decoding.step import decoding_mode
from transformer_core.errors import LineError
from transformer_core.model import Transformer
from transformer_core.model_files import require_decoder

__all__ = ["PairScore", "Scorer"]

# Positions whose logits stand in memory at once: 1024 times 32,000 of them are 128 MiB.
PROJECTED_POSITIONS = 1024


@dataclass(frozen=True, kw_only=True)
class PairScore:
    """What a model thinks of a pair of lines."""

    log_probability: float  # natural logarithm of the probability of the target, end token included
    score: float  # after the length penalty
    token_ids: tuple[int, ...]  # of the target, end token included; none where both lines are blank
    token_log_probabilities: tuple[float, ...]  # of each, given the source and the tokens before it


# `translate` gives a blank line for a blank line without asking the model: certain, and nothing to count.
_BLANK = PairScore(log_probability=0.0, score=0.0, token_ids=(), token_log_probabilities=())


class Scorer:
    """Scores pairs of lines with a loaded model.

    A blank source with a target that is not blank is scored as a source of nothing but its end, and a blank target as
    nothing but the end token; where both are blank the log-probability is 0, as it is for `translate`.

    Args:
        model: computes, wherever it is.
        source_tokenizer: of the source lines.
        target_tokenizer: of the target lines.
        config: the length penalty; SearchConfig() if not given.
        batching: size of the batches and precision; BatchConfig() if not given.
        names: what messages call the sources and the targets.

    Raises:
        ModelError: the model has no decoder.
    """

    def __init__(
        self,
        model: Transformer,
        source_tokenizer: Tokenizer,
        target_tokenizer: Tokenizer,
        config: SearchConfig | None = None,
        batching: BatchConfig | None = None,
        names: tuple[str, str] = ("source", "target"),
    ) -> None:
        require_decoder(model.config)
        self._source_tokenizer = source_tokenizer
        self._target_tokenizer = target_tokenizer
        self._config = config or SearchConfig()
        self._batching = batching or BatchConfig()
        self._model = for_decoding(model, self._batching.precision)
        self._names = names
        self._runner = BatchRunner(self._batching)

    def score(self, pairs: Sequence[tuple[str, str]], first_line_number: int = 1) -> list[PairScore]:
        """Score pairs of source and target line.

        Args:
            pairs: lines without their ends.
            first_line_number: place of the first pair in the whole input, for messages.

        Raises:
            LineError: a line is longer than the positions that the model has learned.
            ModelError: the model computes no probabilities, but NaN.
            OutOfMemoryError: there is no memory for one pair alone.
        """
        sources = encode_lines(self._source_tokenizer, [source for source, _ in pairs])
        targets = encode_lines(self._target_tokenizer, [target for _, target in pairs])
        places = [index for index in range(len(pairs)) if sources[index] or targets[index]]
        for index in places:
            for name, token_ids in zip(self._names, (sources[index], targets[index]), strict=True):
                self._check_length(len(token_ids), name, first_line_number + index)
        with decoding_mode(self._model.device, self._batching.precision):
            found = self._runner.run(
                [len(sources[index]) + len(targets[index]) + 2 for index in places],
                lambda batch: self._score_batch([(sources[places[i]], targets[places[i]]) for i in batch]),
                lambda place: f"{self._names[1]}:{first_line_number + places[place]}",
            )
        scores = [_BLANK] * len(pairs)
        for index, pair_score in zip(places, found, strict=True):
            require_finite(pair_score.token_log_probabilities, f"{self._names[1]}:{first_line_number + index}")
            scores[index] = pair_score
        return scores

    def _check_length(self, num_tokens: int, name: str, line_number: int) -> None:
        if num_tokens > self._model.config.max_length:
            raise LineError(
                line_number,
                f"{name}:{line_number}: has {num_tokens} tokens, but this model has learned only "
                f"{self._model.config.max_positions} positions, the end token's included; leave the pair out",
            )

    def _score_batch(self, pairs: Sequence[tuple[list[int], list[int]]]) -> list[PairScore]:
        """Score pairs of token ids, all at once."""
        tokenizer, device = self._target_tokenizer, self._model.device
        source, source_mask = pad([[*ids, tokenizer.eos_id] for ids, _ in pairs], tokenizer.pad_id, device)
        target_input, _ = pad([[tokenizer.bos_id, *ids] for _, ids in pairs], tokenizer.pad_id, device)
        target_output, _ = pad([[*ids, tokenizer.eos_id] for _, ids in pairs], tokenizer.pad_id, device)
        hidden = self._model(source, source_mask, target_input)  # (batch, target_length, d_model)
        log_probabilities = self._gather(hidden, target_output).tolist()
        return [
            self._pair_score([*ids, tokenizer.eos_id], row[: len(ids) + 1])
            for (_, ids), row in zip(pairs, log_probabilities, strict=True)
        ]

    def _gather(self, hidden: Tensor, target_output: Tensor) -> Tensor:
        """Give the log-probability of every target token, (batch, target_length) float64, some positions at a time."""
        parts = []
        for part, token_ids in zip(
            torch.split(hidden.flatten(0, 1), PROJECTED_POSITIONS),
            torch.split(target_output.flatten(), PROJECTED_POSITIONS),
            strict=True,
        ):
            log_probabilities = torch.log_softmax(self._model.project(part), dim=-1, dtype=torch.float32)
            parts.append(log_probabilities.gather(1, token_ids[:, None]).squeeze(1).cpu())
        return torch.cat(parts).double().view(target_output.shape)

    def _pair_score(self, token_ids: list[int], log_probabilities: list[float]) -> PairScore:
        num_first = len(self._target_tokenizer.first_ids) if len(token_ids) > 1 else 0
        log_probabilities = [*[0.0] * num_first, *log_probabilities[num_first:]]  # what must come is certain
        total = sum(log_probabilities)
        return PairScore(
            log_probability=total,
            score=self._config.score(total, len(token_ids)),
            token_ids=tuple(token_ids),
            token_log_probabilities=tuple(log_probabilities),
        )
