"""What a model thinks of translations when it computes in float64: whether two of them are a tie or not.

Sums in another order differ in their last bits, so where two hypotheses are worth the same, either may be found; in
float64 the order is no matter down to 1e-12 or so, and tells such a tie from a fault.
"""

import copy
from collections.abc import Sequence

import torch

from transformer_core.decoding.generation import model_search, model_source_limit
from transformer_core.model_directory import LoadedModel

__all__ = ["TIE", "Float64Scorer"]

TIE = 1e-5  # two scores that are closer are those of a tie


class Float64Scorer:
    """Compares translations of a line.

    Args:
        loaded: a model with a decoder; of several directions, one that is tagged.
    """

    def __init__(self, loaded: LoadedModel) -> None:
        self._model = copy.deepcopy(loaded.model).double().eval()
        self._source_tokenizer = loaded.source_tokenizer
        self._target_tokenizer = loaded.target_tokenizer
        self._search = model_search(loaded.generation)
        self._max_source_length = model_source_limit(loaded.generation)
        if loaded.model.config.positions == "learned":
            self._max_source_length = min(self._max_source_length, loaded.model.config.max_positions - 1)

    def gap(self, line: str, first: Sequence[str], second: Sequence[str], *, is_greedy: bool) -> float:
        """Give how far apart two translations of a line are in what decides between them.

        For a beam that is the score of the whole. Greedy search never sees that, since it chooses a token and goes on
        from there: here it is the log-probability of the first token that differs.

        Args:
            line: without its end; cut short if it is too long.
            first: the tokens of a translation, end token included.
            second: the tokens of another one.
            is_greedy: whether they were found by greedy search.
        """
        found = [self.token_log_probabilities(line, tokens) for tokens in (first, second)]
        if not is_greedy:
            first_score, second_score = (self._search.score(sum(values), len(values)) for values in found)
            return abs(first_score - second_score)
        place = next(index for index, pair in enumerate(zip(first, second, strict=False)) if pair[0] != pair[1])
        return abs(found[0][place] - found[1][place])

    def token_log_probabilities(self, line: str, tokens: Sequence[str]) -> list[float]:
        """Give the natural logarithm of the probability of every token of a translation, the end token included."""
        device = self._model.device
        source_ids = self._source_tokenizer.encode(line)[: self._max_source_length]
        target_ids = self._target_tokenizer.token_ids(tokens)
        source = torch.tensor([[*source_ids, self._source_tokenizer.eos_id]], device=device)
        target_input = torch.tensor([[self._target_tokenizer.bos_id, *target_ids[:-1]]], device=device)
        with torch.inference_mode():
            logits = self._model.project(self._model(source, None, target_input))[0]  # (target_length, vocabulary)
            log_probabilities = torch.log_softmax(logits, dim=1)
        num_first = len(self._target_tokenizer.first_ids)  # what must come is certain
        found = log_probabilities.gather(1, torch.tensor(target_ids, device=device)[:, None]).flatten().tolist()
        return [*[0.0] * num_first, *found[num_first:]]
