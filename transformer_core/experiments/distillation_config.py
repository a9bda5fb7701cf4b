"""DistillationConfig: who teaches, what is translated, and how the hypotheses are found. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformer_core.data.lines import Errors
from transformer_core.decoding.config import LengthPenaltyType, SearchConfig
from transformer_core.decoding.generation import model_search
from transformer_core.errors import ConfigError

__all__ = ["DISTILLED_FOLDER", "DistillationConfig", "distilled_files"]

DISTILLED_FOLDER = "distilled"  # in the folder of the student
# What a teacher may have been saved with, and distilling cannot have: it needs whole beams of one search.
NOT_FOR_TEACHING = (
    *("sample", "temperature", "top_k", "top_p", "seed", "shortlist", "per_token", "scores"),
    *("beam_groups", "diversity_penalty"),
)


@dataclass(frozen=True, kw_only=True)
class DistillationConfig:
    """What a student learns from: source lines, and what the teacher makes of them."""

    teachers: tuple[Path, ...]  # model folders; several of the same vocabularies are an ensemble
    train_src: tuple[Path, ...]  # source lines
    references: tuple[Path, ...] = ()  # their targets, if known: the hypotheses nearest to them are learned
    tag: str | None = None  # of a teacher for several directions: which of them
    beam_size: int = SearchConfig.beam_size  # of the teacher's search
    n_best: int = 1  # different hypotheses of a line that are learned, at most
    length_penalty: float = SearchConfig.length_penalty
    length_penalty_type: LengthPenaltyType = SearchConfig.length_penalty_type
    errors: Errors = "strict"  # what bytes that are not UTF-8 do

    def __post_init__(self) -> None:
        if not self.teachers:
            raise ConfigError("nobody teaches: name a model folder, or several")
        if not self.train_src:
            raise ConfigError("the teacher needs source lines: --train-src FILE")
        if self.references and len(self.references) != len(self.train_src):
            raise ConfigError(f"there are {len(self.train_src)} source files and {len(self.references)} of references")
        SearchConfig(
            beam_size=self.beam_size,
            n_best=self.n_best,
            length_penalty=self.length_penalty,
            length_penalty_type=self.length_penalty_type,
        )

    def search(self, generation: Mapping[str, Any]) -> SearchConfig:
        """Make the search: that of `translate`, but for what is asked of it here.

        It gives the whole beam, because hypotheses of equal text count once.

        Args:
            generation: what the generation.json of the first teacher says.

        Raises:
            ModelError: that is damaged.
        """
        known = {name: value for name, value in generation.items() if name not in NOT_FOR_TEACHING}
        return replace(
            model_search(known, str(self.teachers[0] / "generation.json")),
            beam_size=self.beam_size,
            n_best=self.beam_size,
            length_penalty=self.length_penalty,
            length_penalty_type=self.length_penalty_type,
        )


def distilled_files(folder: Path) -> tuple[Path, Path]:
    """Name the source and the target side of the pairs in the folder of a student."""
    return folder / DISTILLED_FOLDER / "train.src", folder / DISTILLED_FOLDER / "train.tgt"
