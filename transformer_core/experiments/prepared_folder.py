"""A folder of `transduce prepare`: tokenised text, its tokenizers and its validation text, for any number of runs.

FOLDER/
    prepared.json                  what it holds; written last, and says that the folder is complete
    metadata.json                  where that comes from
    tokenizer.json                 or source_tokenizer.json and target_tokenizer.json
    train/  valid/                 token ids (data/shards.py)
    held-back.src  held-back.tgt   the validation text; validation-copy.src and .tgt where some was given
"""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tokenizer import Tokenizer
from transformer_core.data.lines import open_output
from transformer_core.data.shards import Corpus
from transformer_core.errors import ConfigError, DataError, ModelError
from transformer_core.experiments.corpus_preparation import (
    TRAINING_CORPUS,
    VALIDATION_CORPUS,
    PreparedData,
    clear_prepared_data,
    is_prepared_data,
    prepare_data,
    prepared_data_names,
)
from transformer_core.experiments.locked_folder import locked_folder
from transformer_core.experiments.progress import Progress
from transformer_core.experiments.replacement import discard, put_back, set_aside
from transformer_core.experiments.text_config import PREPARED_FILE
from transformer_core.experiments.texts import OUR_TEXT, TextConfig, read_rows, text_file_names, validation_texts
from transformer_core.experiments.training_file import option_values
from transformer_core.experiments.vocabulary_choice import Tokenizers, choose_tokenizers, tokenizer_files
from transformer_core.model_files import TOKENIZER_FILES, read_json, save_tokenizers, write_json
from transformer_core.provenance import describe_file, describe_software

__all__ = ["Preparation", "adopt_prepared", "check_tokenizers", "open_prepared", "prepare_folder"]

FORMAT_VERSION = 1
METADATA_FILE = "metadata.json"
# What is written beside the corpora and the validation text.
DESCRIPTIONS = (METADATA_FILE, *TOKENIZER_FILES)

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """Everything that decides what `prepare_folder` does."""

    folder: Path
    data: TextConfig
    processes: int = 1  # how many tokenise at once
    overwrite: bool = False  # remove what an earlier preparation left in the folder
    command: str = ""  # how it was started, for prepared.json


def prepare_folder(task: Preparation, progress: Progress, say: Say) -> PreparedData | None:
    """Tokenise text into a folder for `train` or `pretrain`; None if the folder holds just that already.

    Whatever ends it before it is done, nothing is left of it.

    Raises:
        ConfigError: something else is in the way.
        DataError: the text cannot be read, or nothing is left of it.
        TokenizerError: a tokenizer is none, or the text cannot fill the vocabulary.
    """
    folder, data = task.folder, task.data
    files = {name: [describe_file(path) for path in paths] for name, paths in data.files.items()}
    request = _describe_request(data, files)
    with locked_folder(folder, "the tokenised text"):
        if _holds_already(task, request):
            say(f"{folder} holds this already; --overwrite makes it anew")
            return None
        return _prepare(task, files, request, progress, say)


def _prepare(
    task: Preparation, files: dict[str, list[dict[str, Any]]], request: dict[str, Any], progress: Progress, say: Say
) -> PreparedData:
    """Prepare text in a folder that no other process writes into; what it replaces goes when that is done."""
    folder, data = task.folder, task.data
    try:
        tokenizers = choose_tokenizers(data, progress, say)
        if (folder / PREPARED_FILE).exists():
            set_aside(folder, [*prepared_data_names(folder), *DESCRIPTIONS, PREPARED_FILE])
        _clear(folder)
        prepared = prepare_data(folder, data, tokenizers, "", progress, task.processes)
        columns = _copy_validation_text(folder, data) or prepared.validation_columns
        save_tokenizers(folder, *tokenizers)
        origin = {"software": describe_software(), "command": task.command, "data": files}
        write_json(folder / METADATA_FILE, origin)
        facts = {
            "format_version": FORMAT_VERSION,
            "request": request,
            "tokenizers": [tokenizer.sha256 for tokenizer in tokenizers],
            "max_length": data.max_length,
            "corpus": asdict(prepared.training.statistics),
            "num_held_back": prepared.num_held_back,
            "validation": [[path.name for path in column] for column in columns],
            "validation_tags": prepared.validation_tags,
            "tags": data.tags,
        }
        write_json(folder / PREPARED_FILE, facts)
        discard(folder)
    except BaseException:
        if not (folder / PREPARED_FILE).exists():
            _clear(folder)
            put_back(folder)
        raise
    return prepared


def adopt_prepared(data: TextConfig) -> TextConfig:
    """Complete the description of text by what the prepared folder says that it names, if it names one.

    Raises:
        DataError: the folder is none, or incomplete.
        ConfigError: it holds something else than what is asked for.
    """
    if data.prepared is None:
        return data
    facts = _read_facts(data.prepared)
    unit, max_length = facts["request"]["unit"], facts["max_length"]
    if unit != data.unit:
        command = {"pairs": "train", "lines": "pretrain"}[unit]
        raise ConfigError(f"{data.prepared}: holds {unit}; `transduce {command} --data {data.prepared}` takes them")
    if data.max_length not in (type(data).max_length, max_length):
        raise ConfigError(f"{data.prepared}: was prepared with --max-length {max_length}, not {data.max_length}")
    return replace(data, max_length=max_length)


def open_prepared(folder: Path, weights: Sequence[float] = ()) -> PreparedData:
    """Open what `prepare_folder` made, to train with other weights if some are given.

    Raises:
        DataError: the folder is none, or incomplete.
        ConfigError: it has not as many texts with weights.
    """
    facts = _read_facts(folder)
    training = Corpus(folder / TRAINING_CORPUS, weights)
    num_texts = len(Corpus(folder / TRAINING_CORPUS).weights)
    if len(weights) not in (0, num_texts):
        raise ConfigError(
            f"{folder}: holds {num_texts or 'no'} texts with weights, and there are {len(weights)} --weights; "
            "`transduce prepare --weights` keeps texts apart"
        )
    columns = tuple(tuple(folder / name for name in column) for column in facts["validation"])
    if missing := [path for column in columns for path in column if not path.is_file()]:
        raise DataError(f"{missing[0]}: is missing; prepare the folder again")
    return PreparedData(
        training=training,
        validation=Corpus(folder / VALIDATION_CORPUS),
        validation_columns=columns,
        num_held_back=facts["num_held_back"],
        validation_tags=tuple(facts["validation_tags"]),
        tags=tuple(facts["tags"]),
    )


def check_tokenizers(folder: Path, data: PreparedData, tokenizers: Tokenizers) -> None:
    """See that a prepared folder was tokenised by these, and that they know its tags.

    Raises:
        DataError: it was not, or they do not.
    """
    facts, found = _read_facts(folder), [tokenizer.sha256 for tokenizer in tokenizers]
    if facts.get("tokenizers", found) != found:
        raise DataError(
            f"{folder}: was tokenised with other tokenizers than it holds; prepare it again with --overwrite"
        )
    for tag in (*data.tags, *data.validation_tags):
        if tag is not None and tag not in tokenizers[0].tags:
            raise DataError(f"{folder}: speaks of the tag {tag!r:.100}, which its vocabulary lacks; prepare it again")


def _read_facts(folder: Path) -> dict[str, Any]:
    """Read prepared.json.

    Raises:
        DataError: it is missing or damaged.
    """
    path = folder / PREPARED_FILE
    if not path.is_file():
        raise DataError(f"{folder}: is no folder of `transduce prepare`, or not complete: it has no {PREPARED_FILE}")
    try:
        facts = read_json(path)
        is_sound = facts["format_version"] == FORMAT_VERSION and _is_sound(facts)
    except (ModelError, KeyError, TypeError) as error:
        reason = str(error).removeprefix(f"{path}: ")
        raise DataError(f"{path}: is damaged ({reason}); prepare the folder again") from None
    if not is_sound:
        raise DataError(f"{path}: is damaged, or of another version; prepare the folder again")
    return facts


def _is_sound(facts: dict[str, Any]) -> bool:
    """Tell whether prepared.json, which may hold anything, holds what is used of it.

    Raises:
        KeyError: something is missing.
        TypeError: something is of another kind.
    """
    columns, counts = facts["validation"], (facts["max_length"], facts["num_held_back"])
    num_columns = {"pairs": 2, "lines": 1}.get(facts["request"]["unit"])
    return (
        isinstance(columns, list)
        and len(columns) == num_columns
        and len({len(column) for column in columns}) == 1
        and all(OUR_TEXT.fullmatch(name) for column in columns for name in column)
        and all(type(count) is int and 0 <= count < 1 << 53 for count in counts)
        and facts["max_length"] > 0
        and isinstance(facts["tags"], list)
        and all(isinstance(tag, str) for tag in facts["tags"])
        and len(facts["validation_tags"]) in (0, len(columns[0]))
        and all(tag is None or isinstance(tag, str) for tag in facts["validation_tags"])
    )


def _describe_request(data: TextConfig, files: Mapping[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Name all that a prepared folder follows from, wherever the files lie."""
    paths = {*data.files, "tokenizer", "source_tokenizer", "target_tokenizer"}
    return {
        "unit": data.unit,
        "files": {name: [file["sha256"] for file in described] for name, described in files.items()},
        "tokenizers": [Tokenizer.load(path).sha256 for path in tokenizer_files(data)],
        "options": {name: value for name, value in option_values(data).items() if name not in paths},
    }


def _holds_already(task: Preparation, request: dict[str, Any]) -> bool:
    """Tell whether the folder holds what is asked for.

    Raises:
        ConfigError: it holds something else.
    """
    folder = task.folder
    if (folder / PREPARED_FILE).exists():
        if task.overwrite:
            return False
        if _read_facts(folder)["request"] == request:
            return _is_whole(folder)
        raise ConfigError(f"{folder}: holds other text, or text prepared otherwise; --overwrite replaces it")
    is_written = (folder / TRAINING_CORPUS / "corpus.json").exists()  # and killed just before it was complete
    if not is_prepared_data(folder, DESCRIPTIONS if is_written else ()):
        raise ConfigError(f"{folder}: holds something else than prepared text; name another folder")
    return False


def _is_whole(folder: Path) -> bool:
    """Tell whether a prepared folder has all that its prepared.json speaks of."""
    try:
        data = open_prepared(folder)
        for corpus in (data.training, data.validation):
            for number in range(corpus.num_shards):
                corpus.shard(number)
    except DataError:
        return False
    return True


def _clear(folder: Path) -> None:
    """Remove all that `prepare_folder` wrote, but not the folder: another in its place would not be locked."""
    for name in (PREPARED_FILE, *DESCRIPTIONS):
        (folder / name).unlink(missing_ok=True)
    clear_prepared_data(folder)


def _copy_validation_text(folder: Path, data: TextConfig) -> tuple[tuple[Path, ...], ...]:
    """Copy the validation text that is given, and give the files of its columns; () where rows are held back."""
    texts = validation_texts(data)
    copies = [
        tuple(folder / name for name in names)
        for names in text_file_names("validation-copy", data.unit, len(texts))[: len(texts)]
    ]
    for text, paths in zip(texts, copies, strict=True):
        with ExitStack() as stack:
            writers = [stack.enter_context(open_output(path)) for path in paths]
            for row in read_rows(text, data):
                for writer, line in zip(writers, row, strict=True):
                    writer.write_line(line)
    return tuple(zip(*copies, strict=True))
