import pytest
import torch

from transformer_core.decoding.batching import BatchRunner
from transformer_core.decoding.config import BatchConfig
from transformer_core.errors import OutOfMemoryError
from transformer_core.out_of_memory import is_out_of_memory


def run(runner: BatchRunner, lengths: list[int]) -> list[list[int]]:
    """The batches that a runner makes."""
    batches: list[list[int]] = []

    def work(indices: list[int]) -> list[str]:
        batches.append(indices)
        return [f"result {index}" for index in indices]

    results = runner.run(lengths, work, str)
    assert results == [f"result {index}" for index in range(len(lengths))]
    return batches


def test_batches_hold_so_many_sentences_the_longest_first() -> None:
    runner = BatchRunner(BatchConfig(batch_type="sentences", batch_size=2))
    assert run(runner, [3, 9, 5, 7, 3]) == [[1, 3], [2, 0], [4]]


def test_batches_hold_so_many_tokens_padding_and_beams_included() -> None:
    assert run(BatchRunner(BatchConfig(batch_size=12)), [3, 6, 5, 4, 3]) == [[1, 2], [3, 0, 4]]
    assert run(BatchRunner(BatchConfig(batch_size=24), rows_per_sentence=2), [3, 6, 5, 4, 3]) == [[1, 2], [3, 0, 4]]
    assert run(BatchRunner(BatchConfig(batch_size=1)), [3, 6]) == [[1], [0]]
    assert run(BatchRunner(BatchConfig()), []) == []


@pytest.mark.parametrize("batch_type", ["tokens", "sentences"])
@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:121] DefaultCPUAllocator: can't allocate memory: you tried ..."),
    ],
)
def test_out_of_memory_halves_the_batches_from_there_on(batch_type: str, error: Exception) -> None:
    config = BatchConfig(batch_type=batch_type, batch_size=8 if batch_type == "sentences" else 80)  # type: ignore[arg-type]
    runner = BatchRunner(config)
    sizes: list[int] = []

    def work(indices: list[int]) -> list[int]:
        sizes.append(len(indices))
        if len(indices) > 3:
            raise error
        return indices

    assert runner.run([10] * 16, work, str) == list(range(16))
    assert sizes == [8, 4, 2, 2, 2, 2, 2, 2, 2, 2]
    assert runner.num_halvings == 2


def test_out_of_memory_for_one_sentence_names_it() -> None:
    def work(indices: list[int]) -> list[int]:
        if 3 in indices:
            raise MemoryError
        return indices

    runner = BatchRunner(BatchConfig(batch_type="sentences", batch_size=4))
    with pytest.raises(OutOfMemoryError, match=r"^input:4: .*-b"):
        runner.run([1, 1, 1, 1, 1], work, lambda index: f"input:{index + 1}")


def test_other_errors_pass() -> None:
    def work(indices: list[int]) -> list[int]:
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        BatchRunner(BatchConfig()).run([1], work, str)
    assert not is_out_of_memory(RuntimeError("shape mismatch"))
    assert not is_out_of_memory(ValueError("out of memory"))
