import torch

from transformer_core.data.padding import pad, pad_rows


def test_rows_are_padded_at_their_end() -> None:
    rows = [[5, 6], [8]]
    assert pad_rows(rows, 0).tolist() == [[5, 6], [8, 0]]
    assert pad_rows(rows, 0, first=1, last=2).tolist() == [[1, 5, 6, 2], [1, 8, 2, 0]]


def test_pad_gives_a_mask_only_where_something_is_padded() -> None:
    token_ids, mask = pad([[5, 6, 7], [8]], 0, torch.device("cpu"))
    assert token_ids.tolist() == [[5, 6, 7], [8, 0, 0]]
    assert mask is not None
    assert mask.tolist() == [[True, True, True], [True, False, False]]
    token_ids, mask = pad([[5, 6], [8, 9]], 0, torch.device("cpu"))
    assert token_ids.tolist() == [[5, 6], [8, 9]]
    assert mask is None
