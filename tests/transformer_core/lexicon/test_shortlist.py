from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.transformer_core.decoding.random_model import word_tokenizer
from tokenizer import TokenizerConfig, train_tokenizer
from transformer_core.errors import ModelError
from transformer_core.lexicon.shortlist import Shortlist, require_shortlist

VOCABULARY = word_tokenizer().vocabulary_size


def random_shortlist(best: int = 4, seed: int = 5) -> Shortlist:
    generator = torch.Generator().manual_seed(seed)
    counts = torch.randint(0, best + 1, (VOCABULARY,), generator=generator)
    offsets = torch.cat((torch.zeros(1, dtype=torch.int64), counts.cumsum(0)))
    candidates = torch.randint(5, VOCABULARY, (int(offsets[-1]),), generator=generator, dtype=torch.int32)
    return Shortlist(offsets, candidates, torch.tensor([0, 1, 2, 3, 4, 9], dtype=torch.int32))


def test_the_candidates_of_a_line_are_those_of_its_tokens() -> None:
    shortlist = random_shortlist()
    sources = [[7, 8, 8], [], [60]]
    wanted = [[11], [12, 13], []]
    lines, token_ids = shortlist.of_lines(sources, wanted)
    for number, (source, asked) in enumerate(zip(sources, wanted, strict=True)):
        expected = {*asked, *shortlist.always.tolist()}
        for token_id in source:
            begin, end = shortlist.offsets[token_id : token_id + 2].tolist()
            expected.update(shortlist.candidates[begin:end].tolist())
        assert set(token_ids[lines == number].tolist()) == expected


def test_save_and_load(tmp_path: Path) -> None:
    path, tokenizer, shortlist = tmp_path / "shortlist.safetensors", word_tokenizer(), random_shortlist()
    shortlist.save(path, tokenizer, tokenizer)
    found = Shortlist.load(path, tokenizer, tokenizer)
    for name in ("offsets", "candidates", "always"):
        assert torch.equal(getattr(found, name), getattr(shortlist, name))


Change = Callable[[dict[str, Tensor]], dict[str, Tensor]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: {"offsets": tensors["offsets"]}, "it holds other tensors than offsets, candidates, always"),
        (lambda tensors: tensors | {"always": tensors["always"][None]}, "a tensor is no vector"),
        (lambda tensors: tensors | {"always": tensors["always"].long()}, "a tensor is not of its dtype"),
        (lambda tensors: tensors | {"offsets": tensors["offsets"][:-1]}, f"of {VOCABULARY - 1} source tokens"),
        (lambda tensors: tensors | {"offsets": tensors["offsets"].flip(0)}, "do not lie one after the other"),
        (lambda tensors: tensors | {"offsets": tensors["offsets"] + 1}, "do not lie one after the other"),
        (lambda tensors: tensors | {"candidates": tensors["candidates"] + VOCABULARY}, "no entry of the vocabulary"),
        (lambda tensors: tensors | {"candidates": -tensors["candidates"]}, "no entry of the vocabulary"),
        (lambda tensors: tensors | {"always": tensors["always"][:1]}, "the end token is not always a candidate"),
    ],
)
def test_a_damaged_file_is_one_line(tmp_path: Path, change: Change, message: str) -> None:
    path, shortlist = tmp_path / "shortlist.safetensors", random_shortlist()
    tensors = {name: getattr(shortlist, name) for name in ("offsets", "candidates", "always")}
    save_file({name: tensor.contiguous() for name, tensor in change(tensors).items()}, path)
    with pytest.raises(ModelError, match=rf"shortlist.safetensors: is damaged or no shortlist \(.*{message}") as caught:
        Shortlist.load(path, word_tokenizer(), word_tokenizer())
    assert "\n" not in str(caught.value)


def test_what_is_no_file_or_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    path, tokenizer = tmp_path / "shortlist.safetensors", word_tokenizer()
    with pytest.raises(
        ModelError, match=f"is missing, and --shortlist needs it; learn it: transduce shortlist {tmp_path}"
    ):
        Shortlist.load(path, tokenizer, tokenizer)
    path.write_bytes(b"{}")
    with pytest.raises(ModelError, match="is damaged or no shortlist"):
        Shortlist.load(path, tokenizer, tokenizer)
    other = train_tokenizer(
        [" ".join(f"w{number}" for number in range(VOCABULARY))],
        TokenizerConfig(kind="word", vocabulary_size=VOCABULARY),
    )
    random_shortlist().save(path, tokenizer, other)
    with pytest.raises(ModelError, match="is of another vocabulary than the model"):
        Shortlist.load(path, tokenizer, tokenizer)
    with pytest.raises(ModelError, match=r"the model has no shortlist.safetensors"):
        require_shortlist(None)
