"""Train a model from text files: what `transduce train` does, in one call.

Text → tokenizer → corpora of ids → a config completed from the data → the trainer → a model folder that describes
itself. Run with the same arguments, it goes on where it stopped.
"""

from dataclasses import replace
from typing import Any

import torch

from tokenizer import Tokenizer
from transformer_core.data.batching import Batching
from transformer_core.data.shards import Corpus, CorpusStatistics
from transformer_core.device import choose_device, has_fast_bf16
from transformer_core.errors import ConfigError
from transformer_core.experiments.config import ArchitectureConfig, DataConfig, TrainingRun
from transformer_core.experiments.corpus_preparation import (
    PreparedData,
    Progress,
    Tokenizers,
    choose_tokenizers,
    no_progress,
    prepare_data,
)
from transformer_core.experiments.recipe import complete_architecture, complete_training
from transformer_core.experiments.run_folder import (
    abandon_run,
    data_key,
    describe_data,
    describe_run,
    has_finished,
    open_run,
    record_result,
    run_options,
)
from transformer_core.experiments.training_file import option_values
from transformer_core.experiments.validation import ValidationDecoder
from transformer_core.model import Transformer
from transformer_core.model_directory import load_model, read_config, read_tokenizers, weights_of
from transformer_core.training.checkpoint import set_weights
from transformer_core.training.config import TrainingConfig
from transformer_core.training.progress import Listener, Silent
from transformer_core.training.trainer import Trainer, TrainingResult

__all__ = ["train_from_text"]


def train_from_text(
    run: TrainingRun, listener: Listener | None = None, progress: Progress = no_progress
) -> TrainingResult | None:
    """Train, or go on training; None when an earlier run has finished already.

    Raises:
        ConfigError: options do not fit together, or not to the run that the folder holds.
        DataError: the text cannot be read or has nothing to learn from.
        ModelError: the folder is damaged, or `init_from` is no model.
        Interrupted: a signal came; everything is saved.
    """
    listener = listener or Silent()
    folder = run.folder
    is_new_folder = not folder.exists()
    stored = open_run(run)
    if stored is not None and has_finished(run, stored):
        listener.on_message(f"training of {folder} is finished; --overwrite starts anew")
        return None
    device = choose_device(run.training.device)
    torch.set_num_threads(run.training.threads or _stored_threads(stored) or torch.get_num_threads())
    _compare_threads(stored, listener)
    try:
        trainer = _prepare(run, stored, device, progress, listener)
    except BaseException:
        if stored is None:
            abandon_run(folder, is_new_folder=is_new_folder)
        raise
    result = trainer.run()
    record_result(folder, result)
    return result


def _prepare(
    run: TrainingRun, stored: dict[str, Any] | None, device: torch.device, progress: Progress, listener: Listener
) -> Trainer:
    """Make everything that training needs, and write down what it will be."""
    tokenizers = _tokenizers(run, stored, progress, listener)
    data_files = describe_data(run, stored)
    data = prepare_data(run.folder / "data", run.data, tokenizers, data_key(run.data, tokenizers, data_files), progress)
    _report_data(data, tokenizers, run.data, listener)
    model, architecture = _build_model(run, tokenizers, data.training.statistics)
    training = _complete(run, stored, model, data.training, device)
    if stored is None:
        options = run_options(replace(run, architecture=architecture, training=training))
        describe_run(run, model.config, tokenizers, options, data, data_files)
    decode = ValidationDecoder(data, tokenizers, training, run.folder)
    trainer = Trainer(model.to(device), (data.training, data.validation), training, run.folder, decode, listener)
    listener.on_message(
        f"{model.num_parameters():,} parameters, {trainer.num_batches} batches an epoch, up to {trainer.max_steps} "
        f"steps; {training.precision} on {device.type} with {torch.get_num_threads()} threads, seed {training.seed}"
    )
    return trainer


def _stored_threads(stored: dict[str, Any] | None) -> int | None:
    return None if stored is None else stored.get("threads")


def _compare_threads(stored: dict[str, Any] | None, listener: Listener) -> None:
    before = _stored_threads(stored)
    if before is not None and before != torch.get_num_threads():
        listener.on_warning(
            f"the run began with --threads {before} and goes on with {torch.get_num_threads()}: "
            "its weights will differ in the last bits from those of an uninterrupted run"
        )


def _tokenizers(run: TrainingRun, stored: dict[str, Any] | None, progress: Progress, listener: Listener) -> Tokenizers:
    """Take the tokenizers of the run in the folder, of the model to start from, those given, or learn one."""
    for folder in (run.folder if stored is not None else None, run.init_from):
        if folder is not None:
            tokenizers = read_tokenizers(folder, read_config(folder))
            break
    else:
        return choose_tokenizers(run.data, progress, listener.on_message)
    given = [path for path in (run.data.tokenizer, run.data.source_tokenizer, run.data.target_tokenizer) if path]
    own = {tokenizer.sha256 for tokenizer in tokenizers}
    for path in given:
        if Tokenizer.load(path).sha256 not in own:
            raise ConfigError(f"{path}: is not the tokenizer of {folder}; leave it out, the model brings its own")
    return tokenizers


def _report_data(data: PreparedData, tokenizers: Tokenizers, config: DataConfig, listener: Listener) -> None:
    for name, corpus in (("training", data.training), ("validation", data.validation)):
        statistics = corpus.statistics
        listener.on_message(
            f"{name}: {statistics.num_pairs:,} pairs, {statistics.num_source_tokens:,} source and "
            f"{statistics.num_target_tokens:,} target tokens"
        )
        if statistics.num_blank or statistics.num_long:
            listener.on_warning(
                f"{name}: dropped {statistics.num_blank:,} pairs with a blank side and {statistics.num_long:,} with "
                f"more than {config.max_length} tokens on a side"
            )
    if data.num_held_back:
        listener.on_message(
            f"held {data.num_held_back:,} training pairs back for validation: {data.valid_src[0]}, {data.valid_tgt[0]}"
        )


def _build_model(
    run: TrainingRun, tokenizers: Tokenizers, statistics: CorpusStatistics
) -> tuple[Transformer, ArchitectureConfig]:
    """Make the model with fresh weights that follow from the seed, or with those of another model."""
    architecture = complete_architecture(run.architecture, statistics)
    torch.manual_seed(run.training.seed)
    if run.init_from is None:
        source, target = tokenizers
        sizes = (source.vocabulary_size, target.vocabulary_size)
        special_ids = (source.pad_id, source.bos_id, source.eos_id)
        return Transformer(architecture.model_config(sizes, special_ids, is_joint=source is target)), architecture
    asked = option_values(run.architecture)
    asked.pop("dropout", None)
    if changed := sorted(set(asked) - set(option_values(ArchitectureConfig()))):
        raise ConfigError(
            f"--{changed[0].replace('_', '-')} does not go with --init-from: the model brings its architecture"
        )
    loaded = load_model(run.init_from)
    dropout = loaded.model.config.dropout if run.architecture.dropout is None else run.architecture.dropout
    model = Transformer(replace(loaded.model.config, dropout=dropout))
    set_weights(model, weights_of(loaded.model))
    return model, replace(run.architecture, dropout=dropout)


def _complete(
    run: TrainingRun, stored: dict[str, Any] | None, model: Transformer, corpus: Corpus, device: torch.device
) -> TrainingConfig:
    """Fill in what follows from data, model and machine; on resume it gives the same as at the start."""
    config = run.training
    stored = stored or {}
    precision = stored.get("precision", config.precision)
    if precision == "auto":
        precision = "bf16" if has_fast_bf16(device) else "fp32"
    special_ids = {name: getattr(model.config, name) for name in ("pad_id", "bos_id", "eos_id")}
    batching = Batching(batch_size=config.batch_size, batch_type=config.batch_type, seed=config.seed, **special_ids)
    completed = complete_training(
        config,
        num_batches=batching.num_batches(corpus),
        d_model=model.config.decoder.d_model,
        is_fine_tuning=run.init_from is not None,
    )
    if stored and config.max_steps is None:  # a limit given once holds until another one is given
        completed = replace(completed, max_steps=stored["max_steps"])
    return replace(completed, precision=precision, device=device.type, threads=torch.get_num_threads())
