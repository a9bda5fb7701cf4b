from typing import cast

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.transformer_core.data.number_corpus import NumberTokenizer
from tests.transformer_core.decoding.random_model import word_tokenizer
from tokenizer import Tokenizer
from transformer_core.data.encoding import Chunk, EncodedRows, RowEncoder

ids = st.lists(st.integers(5, 999), max_size=9)
NUMBERS = cast(Tokenizer, NumberTokenizer(1000))


def text(row: list[int]) -> str:
    return " ".join(map(str, row))


def rows_of(encoded: EncodedRows) -> list[tuple[list[int], ...]]:
    columns = [
        [part.tolist() for part in np.split(side, np.cumsum(lengths)[:-1])] if len(lengths) else []
        for side, lengths in zip(encoded.ids, encoded.lengths, strict=True)
    ]
    return list(zip(*columns, strict=True))


@given(pairs=st.lists(st.tuples(ids, ids), max_size=30))
def test_pairs_are_kept_or_dropped_and_counted(pairs: list[tuple[list[int], list[int]]]) -> None:
    encoded = RowEncoder((NUMBERS, NUMBERS), 6).encode(Chunk([(text(one), text(other)) for one, other in pairs]))
    whole = [pair for pair in pairs if all(pair)]
    kept = [pair for pair in whole if max(map(len, pair)) <= 6]
    assert rows_of(encoded) == kept
    counts = len(pairs), len(pairs) - len(whole), len(whole) - len(kept), 0
    assert (encoded.num_read, encoded.num_blank, encoded.num_long, encoded.num_cut) == counts


@given(lines=st.lists(ids, max_size=30))
def test_raw_text_is_cut(lines: list[list[int]]) -> None:
    encoded = RowEncoder((NUMBERS,), 4).encode(Chunk([(text(line),) for line in lines]))
    assert rows_of(encoded) == [(line[start : start + 4],) for line in lines for start in range(0, len(line), 4)]
    assert encoded.num_cut == sum(len(line) > 4 for line in lines)
    assert (encoded.num_blank, encoded.num_long) == (sum(not line for line in lines), 0)


def test_white_space_is_blank_whatever_the_tokenizer_makes_of_it() -> None:
    encoded = RowEncoder((word_tokenizer(), word_tokenizer()), 9).encode(Chunk([("ba", " \u3000"), ("\t", "ba")]))
    assert (rows_of(encoded), encoded.num_blank) == ([], 2)


def test_a_tag_stands_before_each_source_and_counts_as_a_token() -> None:
    tokenizer = word_tokenizer().with_tags(["de"])
    chunk = Chunk([("ba be", "bi"), ("ba be bi", "bi"), ("", "bi")], tag="de")
    encoded = RowEncoder((tokenizer, tokenizer), 3).encode(chunk)
    assert rows_of(encoded) == [([tokenizer.tags["de"], *tokenizer.encode("ba be")], tokenizer.encode("bi"))]
    assert (encoded.num_long, encoded.num_blank) == (1, 1)
