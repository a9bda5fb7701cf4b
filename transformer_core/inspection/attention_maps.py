"""What a model attended to while it read one sentence and wrote another, and the choice of a layer and a head.

Loads no torch: the weights are numpy arrays by now.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from transformer_core.config import AttentionKind
from transformer_core.errors import ConfigError

if TYPE_CHECKING:  # the command line names the kinds before anything has to be computed
    import numpy
    from numpy.typing import NDArray

__all__ = ["SHADE_EXPONENT", "AttentionMap", "HeadChoice", "LayerChoice", "SentenceAttention"]

LayerChoice = int | Literal["all"]  # from 1
HeadChoice = int | Literal["all", "mean"]  # from 1

DIGITS = 6  # after the point, in JSON
# A weight is shown as (weight / highest) ** this: else many small ones, of which a long sentence has nothing but, would
# look like none.
SHADE_EXPONENT = 0.6


@dataclass(frozen=True, kw_only=True)
class AttentionMap:
    """The weights of one head, or the mean over the heads of one layer."""

    kind: AttentionKind
    layer: int  # from 1
    head: int | Literal["mean"]  # from 1
    weights: "NDArray[numpy.float32]"  # (rows, columns); each row sums to 1

    @property
    def kind_name(self) -> str:
        """Name the kind."""
        return "cross-attention" if self.kind == "cross" else f"self-attention of the {self.kind}"

    @property
    def place_name(self) -> str:
        """Name layer and head."""
        return f"layer {self.layer}, {'mean of the heads' if self.head == 'mean' else f'head {self.head}'}"

    def __str__(self) -> str:
        """Name the map: "cross-attention, layer 2, head 1"."""
        return f"{self.kind_name}, {self.place_name}"


@dataclass(frozen=True, kw_only=True)
class SentenceAttention:
    """Every weight of every layer and head for one pair of sentences.

    A row is a token while it is read (encoder) or about to be written (decoder, cross); its columns are the tokens
    that it could look at: the source (encoder, cross), or what stands before it in the target, from the begin token on
    (decoder).
    """

    source: str
    target: str | None  # None where the model is an encoder alone
    is_decoded: bool  # the model wrote the target; else it was given
    source_tokens: tuple[str, ...]  # labels, the end token's included
    target_tokens: tuple[str, ...]  # likewise
    begin_token: str  # the label of the decoder's first input
    weights: (
        "Mapping[AttentionKind, NDArray[numpy.float32]]"  # (layers, heads, rows, columns) of each kind that there is
    )
    missing: Mapping[AttentionKind, str]  # why, of each kind that there is not

    def rows(self, kind: AttentionKind) -> tuple[str, ...]:
        """Give the labels of the rows."""
        return self.source_tokens if kind == "encoder" else self.target_tokens

    def columns(self, kind: AttentionKind) -> tuple[str, ...]:
        """Give the labels of the columns."""
        return (self.begin_token, *self.target_tokens[:-1]) if kind == "decoder" else self.source_tokens

    def num_weights(self) -> int:
        """Count the weights of all kinds."""
        return sum(weights.size for weights in self.weights.values())

    def select(
        self, kind: AttentionKind, layer: LayerChoice | None = None, head: HeadChoice = "mean"
    ) -> list[AttentionMap]:
        """Choose maps, ordered by layer and head.

        Args:
            kind: which attention.
            layer: a number from 1, or all of them; None is the last one.
            head: a number from 1, all of them, or their mean.

        Raises:
            ConfigError: the model has no such attention, layer or head.
        """
        if kind in self.missing:
            there = f"take --kind {' or '.join(self.weights)}" if self.weights else "there is no other to look at"
            raise ConfigError(f"{self.missing[kind]}; {there}")
        weights = self.weights[kind]
        layers = _chosen(weights.shape[0], weights.shape[0] if layer is None else layer, f"{_stack(kind)} has", "layer")
        if head == "mean":
            return [self._map(kind, number, head) for number in layers]
        heads = _chosen(weights.shape[1], head, f"each layer of {_stack(kind)} has", "head")
        return [self._map(kind, number, head_number) for number in layers for head_number in heads]

    def to_dict(self, maps: Sequence[AttentionMap]) -> dict[str, Any]:
        """Give the sentences and the chosen maps, of one kind, in the types that JSON has."""
        kind = maps[0].kind
        return {
            "source": self.source,
            "target": self.target,
            "is_decoded": self.is_decoded,
            "kind": kind,
            "rows": self.rows(kind),
            "columns": self.columns(kind),
            "maps": [
                {"layer": item.layer, "head": item.head, "weights": list(_rounded(item.weights))} for item in maps
            ],
        }

    def _map(self, kind: AttentionKind, layer: int, head: int | Literal["mean"]) -> AttentionMap:
        of_layer = self.weights[kind][layer - 1]
        weights = of_layer.mean(axis=0) if head == "mean" else of_layer[head - 1]
        return AttentionMap(kind=kind, layer=layer, head=head, weights=weights)


def _stack(kind: AttentionKind) -> str:
    return "the encoder" if kind == "encoder" else "the decoder"


def _chosen(count: int, choice: int | Literal["all"], owner: str, name: str) -> range:
    """The numbers that a choice stands for.

    Raises:
        ConfigError: there is no such number.
    """
    if choice == "all":
        return range(1, count + 1)
    if not 1 <= choice <= count:
        there = f"one {name} only" if count == 1 else f"{name}s 1 to {count}"
        raise ConfigError(f"there is no {name} {choice}: {owner} {there}")
    return range(choice, choice + 1)


def _rounded(weights: "NDArray[numpy.float32]") -> Iterator[list[float]]:
    for row in weights.tolist():
        yield [round(weight, DIGITS) for weight in row]
