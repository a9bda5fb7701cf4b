"""Which text a run learns from, and how it becomes tokens: pairs, or raw text. Imports no torch."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import ClassVar, Literal

from tokenizer.config import TrainedKind
from transformer_core.data.lines import Errors
from transformer_core.data.records import PAIR_KEYS, PLAIN, InputFormat, RecordForm
from transformer_core.errors import ConfigError

__all__ = ["PREPARED_FILE", "DataConfig", "LearnedKind", "RawTextConfig"]

LearnedKind = Literal["auto", TrainedKind]  # auto: what the words of the text suggest (recipe.py)

PREPARED_FILE = "prepared.json"  # in a folder of `transduce prepare`: what the folder holds


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which pairs a model learns from, and how they become tokens."""

    unit: ClassVar[str] = "pairs"  # what a row is

    prepared: Path | None = None  # a folder of `transduce prepare`: in place of text, tokenizers and tags
    train_src: tuple[Path, ...] = ()  # source sides, line by line beside the target sides
    train_tgt: tuple[Path, ...] = ()
    valid_src: tuple[Path, ...] = ()  # validation pairs; empty: some training pairs are held back
    valid_tgt: tuple[Path, ...] = ()
    input_format: InputFormat = "text"  # what a line of these files holds; if no text, one file may hold both sides
    columns: tuple[str, ...] = ()  # which columns of TSV, or keys of JSON lines, are source and target
    valid_size: int | None = None  # pairs held back; None: a twentieth, at most 1000
    tokenizer: Path | None = None  # joint tokenizer; None: one is learned from the training pairs
    source_tokenizer: Path | None = None  # or one for each side
    target_tokenizer: Path | None = None
    tokenizer_kind: LearnedKind = "auto"  # of the tokenizer that is learned
    vocabulary_size: int | None = None  # of the tokenizer that is learned; None follows from the data
    max_length: int = 256  # tokens a side of a training pair may have; longer pairs are dropped and counted
    bpe_dropout: float = 0.0  # share of the merges left out whenever a training pair is seen
    unigram_alpha: float | None = None  # draws the cuts of words by their probability to this power; None: the best
    errors: Errors = "strict"  # what bytes that are not UTF-8 do
    weights: tuple[float, ...] = ()  # share of the batches that each pair of training files has; (): as large as it is
    shortlist: bool = False  # learn in the end which target tokens go with which source tokens (lexicon/)
    tags: tuple[str, ...] = ()  # what the sources of each pair of files, for training and for validation, begin with

    def __post_init__(self) -> None:
        if self.form.format != "text":  # a side whose file is not named stands in the file of the other
            for source, target in (("train_src", "train_tgt"), ("valid_src", "valid_tgt")):
                object.__setattr__(self, target, getattr(self, target) or getattr(self, source))
        _check_weights(self.weights, len(self.train_src) or len(self.weights), "pair of training files")
        if not 0 <= self.bpe_dropout < 1:
            raise ConfigError(f"bpe_dropout ({self.bpe_dropout}) must be at least 0 and below 1")
        if self.unigram_alpha is not None and not 0 <= self.unigram_alpha < float("inf"):
            raise ConfigError(f"unigram_alpha ({self.unigram_alpha}) must be at least 0")
        if self.bpe_dropout and self.unigram_alpha is not None:
            raise ConfigError(
                "--bpe-dropout and --unigram-alpha are for tokenizers of different kinds; give one of them"
            )
        self._check_cuts()
        if self.prepared is None:
            self._check_text()
        else:
            _refuse_text(self)

    def _check_cuts(self) -> None:
        """See that the kind of tokenizer that is asked for has the cuts that are, too."""
        for option, is_asked, kinds in (
            ("--bpe-dropout", self.bpe_dropout > 0, ("bpe", "byte-bpe")),
            ("--unigram-alpha", self.unigram_alpha is not None, ("unigram",)),
        ):
            if is_asked and self.tokenizer_kind not in ("auto", *kinds):
                raise ConfigError(
                    f"{option} is for tokenizers of kind {' or '.join(kinds)}, not --tokenizer-kind "
                    f"{self.tokenizer_kind}"
                )

    def _check_text(self) -> None:
        if not self.train_src or not self.train_tgt:
            raise ConfigError("training needs both sides: --train-src FILE and --train-tgt FILE; or --data FOLDER")
        if len(self.train_src) != len(self.train_tgt):
            raise ConfigError(f"there are {len(self.train_src)} source files and {len(self.train_tgt)} target files")
        if len(self.valid_src) != len(self.valid_tgt):
            raise ConfigError(
                f"validation has {len(self.valid_src)} source files and {len(self.valid_tgt)} target files; "
                "give --valid-src and --valid-tgt equally often"
            )
        if (self.source_tokenizer is None) != (self.target_tokenizer is None):
            raise ConfigError("--source-tokenizer and --target-tokenizer go together")
        if self.tokenizer is not None and self.source_tokenizer is not None:
            raise ConfigError("give --tokenizer (joint), or --source-tokenizer and --target-tokenizer, not both")
        if self.valid_src and self.valid_size is not None:
            raise ConfigError("--valid-size holds training pairs back; with --valid-src nothing is held back")
        if self.tags and not len(self.valid_src) <= len(self.tags) == len(self.train_src):
            raise ConfigError(
                f"there are {len(self.tags)} tags, {len(self.train_src)} pairs of training files and "
                f"{len(self.valid_src)} of validation files; give --tag once for each pair of training files, in the "
                "same order, and validation files of the first of them, or of all"
            )
        if self.max_length < 1 or (self.valid_size is not None and self.valid_size < 1):
            raise ConfigError("--max-length and --valid-size must be at least 1")

    @property
    def form(self) -> RecordForm:
        """What a line of the files holds."""
        return RecordForm.choose(self.input_format, self.columns, PAIR_KEYS)

    @property
    def files(self) -> dict[str, tuple[Path, ...]]:
        """All files, by the names of their options."""
        if self.prepared is not None:
            return {"data": (self.prepared / PREPARED_FILE,)}
        return {name: getattr(self, name) for name in ("train_src", "train_tgt", "valid_src", "valid_tgt")}

    @property
    def training_columns(self) -> tuple[tuple[Path, ...], ...]:
        """The files to train on: for each column of a row one after the other."""
        return self.train_src, self.train_tgt

    @property
    def validation_columns(self) -> tuple[tuple[Path, ...], ...]:
        """The files to validate with; none in a column where some training rows are held back."""
        return self.valid_src, self.valid_tgt


@dataclass(frozen=True, kw_only=True)
class RawTextConfig:
    """Which raw text a model is pretrained on, and how it becomes tokens; the counterpart of DataConfig."""

    unit: ClassVar[str] = "lines"

    prepared: Path | None = None  # as of DataConfig
    input: tuple[Path, ...] = ()  # lines, each by itself
    valid: tuple[Path, ...] = ()  # validation lines; empty: some training lines are held back
    valid_size: int | None = None  # lines held back; None: a twentieth, at most 1000
    tokenizer: Path | None = None  # None: one is learned from the text
    tokenizer_kind: LearnedKind = DataConfig.tokenizer_kind  # of the tokenizer that is learned
    vocabulary_size: int | None = None  # of the tokenizer that is learned; None follows from the data
    max_length: int = DataConfig.max_length  # tokens a line may have; longer ones are cut into pieces and counted
    errors: Errors = DataConfig.errors  # what bytes that are not UTF-8 do
    weights: tuple[float, ...] = ()  # share of the batches that each file has; (): as large as it is
    tags: ClassVar[tuple[str, ...]] = ()  # raw text has none
    form: ClassVar[RecordForm] = PLAIN  # nor has it columns

    def __post_init__(self) -> None:
        _check_weights(self.weights, len(self.input) or len(self.weights), "file")
        if self.prepared is not None:
            return _refuse_text(self)
        if not self.input:
            raise ConfigError("pretraining needs text: --input FILE; or --data FOLDER")
        if self.valid and self.valid_size is not None:
            raise ConfigError("--valid-size holds lines back; with --valid nothing is held back")
        if self.max_length < 1 or (self.valid_size is not None and self.valid_size < 1):
            raise ConfigError("--max-length and --valid-size must be at least 1")

    @property
    def files(self) -> dict[str, tuple[Path, ...]]:
        """As of DataConfig."""
        if self.prepared is not None:
            return {"data": (self.prepared / PREPARED_FILE,)}
        return {"input": self.input, "valid": self.valid}

    @property
    def training_columns(self) -> tuple[tuple[Path, ...], ...]:
        """As of DataConfig, with one column."""
        return (self.input,)

    @property
    def validation_columns(self) -> tuple[tuple[Path, ...], ...]:
        """As of DataConfig, with one column."""
        return (self.valid,)


def _check_weights(weights: tuple[float, ...], num_texts: int, what: str) -> None:
    if len(weights) not in (0, num_texts):
        raise ConfigError(f"there are {len(weights)} weights; give --weights once for each {what} ({num_texts})")
    if not all(0 < weight < float("inf") for weight in weights):
        raise ConfigError("--weights must be above 0; leave out a file that is not to be learned from")


def _refuse_text(data: DataConfig | RawTextConfig) -> None:
    """See that nothing is asked for that a prepared folder has brought already."""
    free = {
        "prepared",
        "weights",
        "bpe_dropout",
        "unigram_alpha",
        "max_length",
        "tokenizer_kind",
        "errors",
        "shortlist",
    }
    for item in fields(data):
        if item.name not in free and getattr(data, item.name) != item.default:
            name = {"vocabulary_size": "vocab_size", "tags": "tag"}.get(item.name, item.name).replace("_", "-")
            raise ConfigError(f"--data {data.prepared} brings text and tokenizers; leave out --{name}")
