"""A shortlist: the target tokens that a source line may need, a few hundred of a vocabulary of many thousands.

They are the likely translations of its tokens (lexicon/learning.py), the same tokens on the target side, for what is
copied, and some that every line may need: special tokens, and the most frequent ones. Decoding that chooses among them
alone computes the output projection for so many tokens (Jean et al. 2015; L'Hostis et al. 2016).

MODEL/shortlist.safetensors holds three tensors: `offsets` (source vocabulary + 1), where the candidates of each source
token begin; `candidates`; and `always`. Its header says which tokenizers the ids are of.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize
from torch import Tensor

from tokenizer import Tokenizer
from tokenizer.atomic_file import write_bytes
from transformer_core.errors import ModelError
from transformer_core.model_files import SHORTLIST_FILE

__all__ = ["Shortlist", "require_shortlist"]

TENSORS = ("offsets", "candidates", "always")
REMEDY = "learn it anew: transduce shortlist"


@dataclass(frozen=True, eq=False)
class Shortlist:
    """Candidates by source token.

    Attributes:
        offsets: (source vocabulary + 1,) int64, where those of each source token begin among the candidates.
        candidates: (candidates,) int32 target ids.
        always: (some,) int32 target ids, of every line.
    """

    offsets: Tensor
    candidates: Tensor
    always: Tensor

    def of_lines(
        self, sources: Sequence[Sequence[int]], wanted: Sequence[Sequence[int]] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Give the candidates of some lines, some of them several times.

        Args:
            sources: the token ids of each.
            wanted: of each, further candidates.

        Returns:
            lines, (n,) int64, and their candidates, (n,) int64.
        """
        lengths = torch.tensor([len(source) for source in sources])
        source_ids = torch.tensor([token_id for source in sources for token_id in source], dtype=torch.int64)
        first, counts = self.offsets[source_ids], self.offsets[source_ids + 1] - self.offsets[source_ids]
        # (source tokens,) -> (their candidates,)
        starts = (first - (counts.cumsum(0) - counts)).repeat_interleave(counts)
        places = starts + torch.arange(starts.numel())
        numbers = torch.arange(len(sources))
        lines = [numbers.repeat_interleave(lengths).repeat_interleave(counts)]
        token_ids = [self.candidates[places]]
        lines.append(numbers.repeat_interleave(self.always.numel()))
        token_ids.append(self.always.repeat(len(sources)))
        if wanted is not None:
            lines.append(numbers.repeat_interleave(torch.tensor([len(ids) for ids in wanted])))
            token_ids.append(torch.tensor([token_id for ids in wanted for token_id in ids], dtype=torch.int32))
        return torch.cat(lines), torch.cat(token_ids).to(torch.int64)

    def save(self, path: Path, source: Tokenizer, target: Tokenizer) -> None:
        """Write the file, whole or not at all.

        Args:
            path: of the file.
            source: tokenizer of the source ids.
            target: tokenizer of the candidates.
        """
        tensors = {name: getattr(self, name).contiguous() for name in TENSORS}
        write_bytes(path, serialize(tensors, _header(source, target)))

    @classmethod
    def load(cls, path: Path, source: Tokenizer, target: Tokenizer) -> Self:
        """Read the file of a model with these tokenizers.

        Raises:
            ModelError: it is missing or damaged, or of other tokenizers.
        """
        if not path.is_file():
            raise ModelError(
                f"{path}: is missing, and --shortlist needs it; learn it: transduce shortlist {path.parent}"
            )
        try:
            with safe_open(path, framework="pt") as file:
                if set(file.keys()) != set(TENSORS):
                    raise ValueError(f"it holds other tensors than {', '.join(TENSORS)}")
                header = file.metadata() or {}
                found = cls(*(file.get_tensor(name) for name in TENSORS))
            found._check(source, target)
        except (SafetensorError, OSError, ValueError) as error:
            raise ModelError(f"{path}: is damaged or no shortlist ({error}); {REMEDY}") from None
        if header != _header(source, target):
            raise ModelError(f"{path}: is of another vocabulary than the model; {REMEDY}")
        return found

    def _check(self, source: Tokenizer, target: Tokenizer) -> None:
        """See that all places and ids are some.

        Raises:
            ValueError: one is not.
        """
        if any(getattr(self, name).dim() != 1 for name in TENSORS):
            raise ValueError("a tensor is no vector")
        if self.offsets.dtype != torch.int64 or {self.candidates.dtype, self.always.dtype} != {torch.int32}:
            raise ValueError("a tensor is not of its dtype")
        if self.offsets.numel() != source.vocabulary_size + 1:
            raise ValueError(f"it is of {self.offsets.numel() - 1} source tokens, not {source.vocabulary_size}")
        is_in_order = bool((self.offsets.diff() >= 0).all())
        if not is_in_order or int(self.offsets[0]) != 0 or int(self.offsets[-1]) != self.candidates.numel():
            raise ValueError("its candidates do not lie one after the other")
        for token_ids in (self.candidates, self.always):
            if token_ids.numel() and not 0 <= int(token_ids.min()) <= int(token_ids.max()) < target.vocabulary_size:
                raise ValueError("a candidate is no entry of the vocabulary")
        if target.eos_id not in self.always.tolist():
            raise ValueError("the end token is not always a candidate")


def require_shortlist(shortlist: Shortlist | None) -> Shortlist:
    """Give the shortlist back.

    Raises:
        ModelError: there is none.
    """
    if shortlist is None:
        raise ModelError(f"the model has no {SHORTLIST_FILE}; learn it: transduce shortlist MODEL")
    return shortlist


def _header(source: Tokenizer, target: Tokenizer) -> dict[str, str]:
    return {"source_tokenizer": source.sha256, "target_tokenizer": target.sha256}
