"""The demo: the whole path on a real task, from its data to a model and a score, in minutes.

It is made of what everybody uses: tokenizers, `train_from_text`, the translator, the metrics. Its three steps are
`prepare_demo`, `train_from_text(demo.run)` and `evaluate_demo`; each takes up what an earlier run has completed, so a
demo that was interrupted goes on.

    FOLDER/data/         the pairs, and the notice of whose they are (demo_data.py)
    FOLDER/demo.json     what the data are and their hashes; written when they are complete
    FOLDER/words.json    the tokenizer of each side, called after its files
    FOLDER/phones.json
    FOLDER/model/        what `train_from_text` makes of them
    FOLDER/test.hyp      what the model makes of the items that were held back
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from tokenizer import Tokenizer, TokenizerConfig, TokenizerFileError, train_tokenizer
from transformer_core.data.lines import open_output, read_lines
from transformer_core.decoding.config import SearchConfig
from transformer_core.decoding.generation import model_length_ratio
from transformer_core.decoding.translator import Translator
from transformer_core.device import choose_device
from transformer_core.errors import ConfigError, ModelError
from transformer_core.evaluation.metrics import MetricName, MetricScore, evaluate_corpus
from transformer_core.experiments.config import ArchitectureConfig, TrainingRun
from transformer_core.experiments.demo_data import DemoData, DemoSizes, DemoTask, write_demo_data
from transformer_core.experiments.progress import Progress, no_progress
from transformer_core.experiments.text_config import DataConfig
from transformer_core.model_directory import load_model
from transformer_core.model_files import hash_file, read_json, write_json
from transformer_core.training.config import TrainingConfig

__all__ = ["Demo", "DemoConfig", "DemoResult", "DemoTokenizer", "evaluate_demo", "prepare_demo"]

WINDOW_LINES = 500  # test items decoded at a time


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """What is asked of the demo."""

    folder: Path  # where everything goes
    task: DemoTask = "pronounce"
    max_steps: int | None = None  # updates; None: the budget of the task
    overwrite: bool = False  # start anew where an earlier demo was
    device: str = TrainingConfig.device  # auto, cpu, cuda, cuda:N, mps
    threads: int | None = TrainingConfig.threads  # processor threads; None: as many as cores
    command: str = ""  # how the demo was started, for the model's metadata.json
    sizes: DemoSizes = field(default_factory=DemoSizes)  # of the data


@dataclass(frozen=True, kw_only=True)
class DemoTokenizer:
    """The tokenizer of a side."""

    path: Path
    text_path: Path  # what it is learned from
    config: TokenizerConfig


@dataclass(frozen=True, kw_only=True)
class Demo:
    """A demo that is ready to be trained."""

    data: DemoData
    tokenizers: tuple[DemoTokenizer, DemoTokenizer]  # of source and target
    run: TrainingRun  # what `train_from_text` takes
    example: str  # something that somebody might type
    metrics: tuple[MetricName, ...]  # that fit the task
    hypotheses_path: Path  # what the model makes of the test goes there


@dataclass(frozen=True, kw_only=True)
class DemoResult:
    """What the model can do."""

    sources: list[str]  # the test items
    hypotheses: list[str]  # what the model makes of them
    references: list[list[str]]  # per file of right answers its lines
    scores: list[MetricScore]  # the closest of the right answers counts
    first_scores: list[MetricScore]  # against the first right answer alone
    num_parameters: int
    search: SearchConfig
    translator: Translator  # for whatever else somebody wants to try


@dataclass(frozen=True, kw_only=True)
class _Recipe:
    """How a task is learned: what differs from the defaults of training."""

    architecture: ArchitectureConfig
    training: TrainingConfig
    metrics: tuple[MetricName, ...]
    example: str


RECIPES: dict[DemoTask, _Recipe] = {
    "pronounce": _Recipe(
        architecture=ArchitectureConfig(arch="tiny", num_layers=2, dropout=0.0),
        training=TrainingConfig(batch_size=2048, max_steps=1200, patience=0),
        metrics=("exact", "wer"),
        example="LABEL",
    ),
    "dates": _Recipe(
        architecture=ArchitectureConfig(arch="tiny", num_layers=2, dropout=0.0),
        training=TrainingConfig(batch_size=2048, max_steps=1500, patience=0),
        metrics=("exact", "cer"),
        example="6. März 2024",
    ),
}


def prepare_demo(
    config: DemoConfig, progress: Progress = no_progress, say: Callable[[str], None] = lambda text: None
) -> Demo:
    """Write the data and learn the tokenizers, where an earlier run has not done so.

    Args:
        config: what is asked for.
        progress: is shown how far the work is.
        say: is told what was done.

    Raises:
        ConfigError: the folder holds something else.
        DataError: the package that carries the data is missing.
    """
    recipe, folder = RECIPES[config.task], config.folder
    _require_own_folder(folder, config.task)
    data = None if config.overwrite else _find_data(config)
    is_new = data is None
    if data is None:
        data = _write_data(config)
    counts = data.num_lines
    say(
        f"{data.folder}: {counts['train']:,} pairs to learn from, {counts['valid']:,} to validate with, "
        f"{counts['test']:,} held back"
    )
    tokenizers = _tokenizers(data, folder)
    for tokenizer in tokenizers:
        if is_new or not _is_tokenizer(tokenizer.path):
            _learn(tokenizer, progress, say)
    return Demo(
        data=data,
        tokenizers=tokenizers,
        run=_training_run(config, data, tokenizers),
        example=recipe.example,
        metrics=recipe.metrics,
        hypotheses_path=folder / "test.hyp",
    )


def evaluate_demo(demo: Demo, progress: Progress = no_progress) -> DemoResult:
    """Let the trained model answer the items that were held back, as `translate` does, and score it as `evaluate` does.

    Raises:
        ModelError: the model is missing or damaged.
    """
    loaded = load_model(demo.run.folder, device=choose_device(demo.run.training.device))
    search = SearchConfig(max_length_ratio=model_length_ratio(loaded.generation))
    translator = Translator(loaded.model, loaded.source_tokenizer, loaded.target_tokenizer, search)
    sources = list(read_lines([demo.data.source_path("test")]))
    hypotheses: list[str] = []
    with progress("answering what was held back", unit="items") as advance:
        for start in range(0, len(sources), WINDOW_LINES):
            window = sources[start : start + WINDOW_LINES]
            hypotheses += [translation.text for translation in translator.translate(window, start + 1)]
            advance(len(window))
    with open_output(demo.hypotheses_path) as output:
        for hypothesis in hypotheses:
            output.write_line(hypothesis)
    references = [list(read_lines([path])) for path in demo.data.reference_paths()]
    return DemoResult(
        sources=sources,
        hypotheses=hypotheses,
        references=references,
        scores=evaluate_corpus(hypotheses, references, demo.metrics),
        first_scores=evaluate_corpus(hypotheses, references[:1], demo.metrics),
        num_parameters=loaded.model.num_parameters(),
        search=search,
        translator=translator,
    )


def _training_run(config: DemoConfig, data: DemoData, tokenizers: tuple[DemoTokenizer, DemoTokenizer]) -> TrainingRun:
    recipe = RECIPES[config.task]
    return TrainingRun(
        folder=config.folder / "model",
        data=DataConfig(
            train_src=(data.source_path("train"),),
            train_tgt=(data.target_path("train"),),
            valid_src=(data.source_path("valid"),),
            valid_tgt=(data.target_path("valid"),),
            source_tokenizer=tokenizers[0].path,
            target_tokenizer=tokenizers[1].path,
        ),
        architecture=recipe.architecture,
        training=replace(
            recipe.training,
            max_steps=config.max_steps or recipe.training.max_steps,
            device=config.device,
            threads=config.threads,
        ),
        overwrite=config.overwrite,
        command=config.command,
    )


# --- Data


def _find_data(config: DemoConfig) -> DemoData | None:
    """Find what an earlier run has written; None if there is nothing, or not all of it as it was."""
    try:
        record = read_json(_record_path(config.folder))
        data_folder = _data_folder(config.folder)
        is_whole = record["sizes"] == asdict(config.sizes) and all(
            hash_file(data_folder / name) == sha256 for name, sha256 in record["files"].items()
        )
        return DemoData(folder=data_folder, **record["data"]) if is_whole else None
    except (ModelError, OSError, LookupError, TypeError, AttributeError):
        return None


def _write_data(config: DemoConfig) -> DemoData:
    """Write the data, and at the end the record of what they are."""
    data_folder = _data_folder(config.folder)
    data = write_demo_data(config.task, data_folder, sizes=config.sizes)
    record = {
        "sizes": asdict(config.sizes),
        "data": {name: value for name, value in asdict(data).items() if name != "folder"},
        "files": {
            path.name: hash_file(path) for path in sorted(data_folder.iterdir()) if not path.name.startswith(".")
        },
    }
    write_json(_record_path(config.folder), record)
    return data


def _require_own_folder(folder: Path, task: DemoTask) -> None:
    """Make sure that nothing else is written over.

    Raises:
        ConfigError: the folder is a file, holds the demo of another task, or something and no demo.
    """
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is a file; name a folder with -o")
    if _record_path(folder).exists():
        try:
            found = read_json(_record_path(folder))["data"]["task"]
        except (ModelError, LookupError, TypeError):
            return  # damaged: it will be written again
        if found != task:
            raise ConfigError(f"{folder}: holds the demo {found}; name another folder with -o")
    elif folder.exists():
        strange = {path.name for path in folder.iterdir() if not path.name.startswith(".")} - {"data"}
        if strange:
            raise ConfigError(f"{folder}: holds {min(strange)} and no demo; name another folder with -o")


def _record_path(folder: Path) -> Path:
    return folder / "demo.json"


def _data_folder(folder: Path) -> Path:
    return folder / "data"


# --- Tokenizers


def _tokenizers(data: DemoData, folder: Path) -> tuple[DemoTokenizer, DemoTokenizer]:
    """Choose a tokenizer for each side; what people type may have capitals anywhere, so the source gives them up."""
    return (
        DemoTokenizer(
            path=folder / f"{data.source_suffix}.json",
            text_path=data.source_path("train"),
            config=TokenizerConfig(kind=data.source_kind, lowercase=True),
        ),
        DemoTokenizer(
            path=folder / f"{data.target_suffix}.json",
            text_path=data.target_path("train"),
            config=TokenizerConfig(kind=data.target_kind),
        ),
    )


def _is_tokenizer(path: Path) -> bool:
    try:
        Tokenizer.load(path)
    except TokenizerFileError:
        return False
    return True


def _learn(tokenizer: DemoTokenizer, progress: Progress, say: Callable[[str], None]) -> None:
    with progress("learning the vocabulary", unit="lines") as advance:
        learned = train_tokenizer(read_lines([tokenizer.text_path]), tokenizer.config, advance)
    learned.save(tokenizer.path)
    say(f"{tokenizer.path}: {tokenizer.config.kind}, {learned.vocabulary_size} entries")
