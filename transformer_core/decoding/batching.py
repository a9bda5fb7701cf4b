"""Sentences of similar length together, as many as the batch size and the memory allow."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import TypeVar

from transformer_core.decoding.config import BatchConfig
from transformer_core.errors import OutOfMemoryError
from transformer_core.out_of_memory import is_out_of_memory

__all__ = ["BatchRunner"]

Result = TypeVar("Result")


class BatchRunner:
    """Work through sentences in batches, the longest first; when memory runs out, halve the batches from there on.

    Args:
        config: size of a batch.
        rows_per_sentence: hypotheses that each sentence is decoded with; each of them counts as tokens of the batch.

    Attributes:
        batch_size: in the units of `config.batch_type`; shrinks when memory runs out.
        num_halvings: how often that happened.
        turn: entered for every batch; whoever shares a model with others waits for it there.
    """

    def __init__(self, config: BatchConfig, rows_per_sentence: int = 1) -> None:
        self.batch_size = config.effective_batch_size
        self.num_halvings = 0
        self.turn: Callable[[], AbstractContextManager[object]] = nullcontext
        self._counts_tokens = config.batch_type == "tokens"
        self._rows_per_sentence = rows_per_sentence

    def run(
        self,
        lengths: Sequence[int],
        work: Callable[[list[int]], Sequence[Result]],
        name_of: Callable[[int], str],
    ) -> list[Result]:
        """Do the work on every sentence.

        Args:
            lengths: of the sentences, in tokens.
            work: takes the indices of some sentences and gives their results in the same order.
            name_of: says where a sentence comes from.

        Returns:
            The result of every sentence, in the order of `lengths`.

        Raises:
            OutOfMemoryError: there is no memory for even one sentence.
        """
        order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
        results: dict[int, Result] = {}
        start = 0
        while start < len(order):
            batch = order[start : start + self._num_fitting(lengths[order[start]])]
            try:
                with self.turn():
                    results.update(zip(batch, work(batch), strict=True))
                start += len(batch)
            except (MemoryError, RuntimeError) as error:
                if not is_out_of_memory(error):
                    raise
                if len(batch) == 1:
                    raise OutOfMemoryError(
                        f"{name_of(batch[0])}: there is no memory for this line alone; "
                        "use a smaller beam (-b), a lower --max-length, or a machine with more memory"
                    ) from None
                self._halve(len(batch), lengths[batch[0]])
        return [results[index] for index in range(len(lengths))]

    def _cost(self, longest: int) -> int:
        """What a sentence counts in a batch whose longest has so many tokens."""
        return max(1, longest) * self._rows_per_sentence if self._counts_tokens else 1

    def _num_fitting(self, longest: int) -> int:
        return max(1, self.batch_size // self._cost(longest))

    def _halve(self, num_sentences: int, longest: int) -> None:
        self.batch_size = num_sentences // 2 * self._cost(longest)
        self.num_halvings += 1
