"""Another vocabulary for a trained model: what is known of its entries under the one that the model has.

An entry that both vocabularies have keeps its vectors. One that the model can spell begins as the mean of the vectors
that spell it, so that at the start a new word means about what its pieces meant; what cannot be spelled is fresh.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from tokenizer import Tokenizer
from tokenizer.special_tokens import BYTE_TOKENS

__all__ = ["VocabularyExtension", "extend_vocabulary"]

PART_OF_CHARACTER = "\ufffd"


@dataclass(frozen=True, kw_only=True)
class VocabularyExtension:
    """Where the vectors of a new vocabulary come from."""

    origins: tuple[tuple[int, ...], ...]  # of each new id the old ids: its own, those that spell it, or none
    num_known: int  # entries of both vocabularies

    def rows(self, fresh: Tensor, old: Tensor) -> Tensor:
        """Make the table of the new vocabulary.

        Args:
            fresh: (new_vocabulary, d_model), of which the rows are taken that come from nowhere; or (new_vocabulary,).
            old: (old_vocabulary, d_model); or (old_vocabulary,).

        Returns:
            the shape of `fresh`.
        """
        rows = fresh.clone()
        for index, old_ids in enumerate(self.origins):
            if len(old_ids) == 1:
                rows[index] = old[old_ids[0]]
            elif old_ids:
                rows[index] = old[list(old_ids)].mean(dim=0)
        return rows

    def __str__(self) -> str:
        """Say what is old and what is new."""
        num_fresh = sum(not old_ids for old_ids in self.origins)
        num_composed = len(self.origins) - self.num_known - num_fresh
        return (
            f"{self.num_known:,} of {len(self.origins):,} entries are known and keep their vectors, "
            f"{num_composed:,} begin as the mean of the pieces that spelled them, {num_fresh:,} are fresh"
        )


def extend_vocabulary(old: Tokenizer, new: Tokenizer) -> VocabularyExtension:
    """Find the entries of `new` in `old`, and spell those that are not there."""
    old_names, new_names = _names(old, new), _names(new, old)
    old_ids = {name: index for index, name in enumerate(old_names) if name is not None}
    found = [None if name is None else old_ids.get(name) for name in new_names]
    if new.bos_id != new.eos_id:  # a start token that is the end token, too, is written: its vectors are those
        found[new.bos_id] = old.bos_id  # whatever each is called: the decoder knows what it begins with
    spelled = _spell(old, new, [index for index, old_id in enumerate(found) if old_id is None])
    return VocabularyExtension(
        origins=tuple(spelled.get(index, ()) if old_id is None else (old_id,) for index, old_id in enumerate(found)),
        num_known=sum(old_id is not None for old_id in found),
    )


def _names(tokenizer: Tokenizer, other: Tokenizer) -> list[str | None]:
    """Name the entries as the other vocabulary would; None for what it cannot have.

    Byte-level BPE writes the bytes of a text, the other kinds write the text.
    """
    if (tokenizer.config.kind == "byte-bpe") == (other.config.kind == "byte-bpe"):
        return list(tokenizer.tokens(range(tokenizer.vocabulary_size)))
    return [None if PART_OF_CHARACTER in piece else piece for piece in tokenizer.pieces]


def _spell(old: Tokenizer, new: Tokenizer, ids: Sequence[int]) -> dict[int, tuple[int, ...]]:
    """Encode the text of entries, by their ids; what has none, or becomes unknown, is left out."""
    spelled = {}
    for index in sorted(set(ids) - set(new.tags.values())):
        piece = new.pieces[index]
        if PART_OF_CHARACTER in piece or piece in BYTE_TOKENS:
            continue
        # a line is given the space with which its first word begins
        old_ids = old.encode_words(piece[1:]) if piece.startswith(" ") and piece.strip() else old.encode_rest(piece)
        if old_ids and old.unk_id not in old_ids:
            spelled[index] = tuple(old_ids)
    return spelled
