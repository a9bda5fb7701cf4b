"""Encode a long text by several processes at once; what comes out is the same, in the same order, for any number."""

from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial
from itertools import chain, islice

from tokenizer import Tokenizer
from transformer_core.data.encoding import Chunk, EncodedRows, RowEncoder
from transformer_core.worker_processes import in_order, worker_processes

__all__ = ["encode_in_order"]

CHUNKS_ALONE = 4  # encoded by this process before it starts others: they take a third of a second to come


def encode_in_order(chunks: Iterable[Chunk], encoder: RowEncoder, processes: int) -> Generator[EncodedRows, None, None]:
    """Encode one chunk after the other; a long text by `processes` others at once.

    Raises:
        OutOfMemoryError: the system killed one of them.
    """
    chunks = iter(chunks)
    for chunk in islice(chunks, CHUNKS_ALONE if processes > 1 else None):
        yield encoder.encode(chunk)
    first = next(chunks, None)
    if first is not None:
        start = partial(_encode, [tokenizer.to_json() for tokenizer in encoder.tokenizers], encoder.max_length)
        environment = {"TOKENIZERS_PARALLELISM": "false"}  # each of them has one core
        with worker_processes(
            [start] * processes, work="tokenised", option="--threads", environment=environment
        ) as workers:
            yield from in_order(chain([first], chunks), workers)


def _encode(texts: Sequence[str], max_length: int) -> Callable[[Chunk], EncodedRows]:
    """Give what encodes, made of tokenizers as JSON."""
    return RowEncoder([Tokenizer.from_json(text) for text in texts], max_length).encode
