"""The folder of a comparison: whether it is one, of which pairs, and the tokenizers that its models share.

FOLDER/compared.json      the pairs and the tokenizers, by their hashes; says that the folder is a comparison's
FOLDER/tokenizer.json     or source_tokenizer.json and target_tokenizer.json; neither where one was given
FOLDER/attention/ …       a model folder for each mixer
FOLDER/unscaled/          attention once more, without its division by √d_head
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tokenizer import Tokenizer
from transformer_core.errors import ConfigError
from transformer_core.experiments.compare_config import MIXER_NAMES, UNSCALED, TrainingComparison
from transformer_core.experiments.locked_folder import require_folder_name
from transformer_core.experiments.progress import Progress
from transformer_core.experiments.text_config import DataConfig
from transformer_core.experiments.texts import read_rows, training_texts, validation_texts
from transformer_core.experiments.training_file import TRAINING_FILE
from transformer_core.experiments.vocabulary_choice import choose_tokenizers, tokenizer_files
from transformer_core.model_files import read_json, save_tokenizers, tokenizer_paths, write_json
from transformer_core.provenance import describe_file

__all__ = ["COMPARED_FILE", "shared_data"]

COMPARED_FILE = "compared.json"
MODEL_NAMES = (*MIXER_NAMES, UNSCALED)


def shared_data(training: TrainingComparison, progress: Progress, say: Callable[[str], None]) -> DataConfig:
    """Name the pairs and the tokenizers of all models; learn those, if none is given or left by the same comparison.

    Raises:
        ConfigError: the folder holds something else, or models of other pairs or another tokenizer.
        DataError: the pairs cannot be read.
        TokenizerError: a tokenizer is none, or the text cannot fill the vocabulary.
    """
    folder = training.folder
    data = DataConfig(
        train_src=training.train_src,
        train_tgt=training.train_tgt,
        valid_src=training.valid_src,
        valid_tgt=training.valid_tgt,
        tokenizer=training.tokenizer,
    )
    _require_comparison(folder, training.tokenizer)
    pairs = {name: [describe_file(path)["sha256"] for path in paths] for name, paths in data.files.items()}
    if not training.overwrite and _is_same(data, pairs, folder):
        return _with_tokenizers(data, folder)
    _read_pairs(data, progress)
    tokenizers = choose_tokenizers(data, progress, say)
    folder.mkdir(parents=True, exist_ok=True)
    # First: a tokenizer that is found without it is a stranger's.
    compared = {"pairs": pairs, "tokenizers": [tokenizer.sha256 for tokenizer in tokenizers]}
    write_json(folder / COMPARED_FILE, compared)
    if data.tokenizer is None:
        save_tokenizers(folder, *tokenizers)
    return _with_tokenizers(data, folder)


def _require_comparison(folder: Path, tokenizer: Path | None) -> None:
    """See that a folder holds a comparison, or nothing but models of mixers and the tokenizer that is given.

    Raises:
        ConfigError: it holds something else, or is no folder.
    """
    require_folder_name(folder, "the models")
    if not folder.exists() or (folder / COMPARED_FILE).exists():
        return
    given = None if tokenizer is None else tokenizer.resolve()
    strange = {
        path.name
        for path in folder.iterdir()
        if not (path.name.startswith(".") or path.resolve() == given or (path.name in MODEL_NAMES and path.is_dir()))
    }
    if strange:
        raise ConfigError(f"{folder}: holds {min(strange)} and no comparison; name another folder for the models")


def _is_same(data: DataConfig, pairs: dict[str, list[str]], folder: Path) -> bool:
    """Tell whether a folder holds what this comparison begins with.

    Args:
        data: the pairs, and the tokenizer that is given.
        pairs: the hashes of their files.
        folder: of the comparison.

    Raises:
        ConfigError: it does not, and models were trained from that.
    """
    compared = read_json(folder / COMPARED_FILE)
    has_pairs = compared.get("pairs") == pairs
    if has_pairs and compared.get("tokenizers") == _hashes(_with_tokenizers(data, folder)):
        return True
    if compared and any((folder / name / TRAINING_FILE).exists() for name in MODEL_NAMES):
        others = "with another tokenizer" if has_pairs else "on other pairs"
        raise ConfigError(
            f"{folder}: its models were trained {others}; go on with the same, name another folder, or start anew with "
            "--overwrite"
        )
    return False


def _with_tokenizers(data: DataConfig, folder: Path) -> DataConfig:
    """Complete what names no tokenizer by those of the folder."""
    if data.tokenizer is not None:
        return data
    joint, source, target = tokenizer_paths(folder)
    return replace(data, tokenizer=joint, source_tokenizer=source, target_tokenizer=target)


def _hashes(data: DataConfig) -> list[str] | None:
    """The hashes of the tokenizers of source and target; None if one is not there.

    Raises:
        TokenizerFileError: one is damaged.
    """
    files = tokenizer_files(data)
    if not all(path.exists() for path in files):
        return None
    return [Tokenizer.load(path).sha256 for path in (files[0], files[-1])]


def _read_pairs(data: DataConfig, progress: Progress) -> None:
    """See that all pairs can be read, before anything is learned from them.

    Raises:
        DataError: a file cannot be read, or one of a pair has more lines than the other.
    """
    with progress("reading the pairs", unit="pairs") as advance:
        for text in (*training_texts(data), *validation_texts(data)):
            for _ in read_rows(text, data):
                advance(1)
