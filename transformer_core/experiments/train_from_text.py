"""Train a model from text files: what `transduce train` and `transduce pretrain` do, in one call.

Text → tokenizer → corpora of ids → a config completed from the data → the trainer → a model folder that describes
itself. Run with the same arguments, it goes on where it stopped.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from transformer_core.data.batching import Batching
from transformer_core.data.encoding_processes import num_cores
from transformer_core.data.shards import Corpus
from transformer_core.data.subword_regularization import SubwordRegularization
from transformer_core.device import choose_device, has_fast_bf16
from transformer_core.experiments.config import DataConfig, TrainingRun
from transformer_core.experiments.corpus_preparation import (
    PreparedData,
    Progress,
    Tokenizers,
    choose_tokenizers,
    no_progress,
    prepare_data,
    report_data,
)
from transformer_core.experiments.prepared_folder import adopt_prepared, open_prepared
from transformer_core.experiments.pretraining import pretraining_task
from transformer_core.experiments.recipe import complete_training
from transformer_core.experiments.run_folder import (
    DATA_FOLDER,
    abandon_run,
    clear_folder,
    continue_run,
    data_key,
    describe_data,
    describe_run,
    has_finished,
    names_before,
    open_run,
    record_result,
)
from transformer_core.experiments.starting_point import (
    build_model,
    compare_tokenizers,
    fresh_model,
    given_tokenizers,
    is_fine_tuning,
    take_weights,
)
from transformer_core.experiments.training_file import recall_options
from transformer_core.experiments.validation import ValidationDecoder
from transformer_core.model import Transformer
from transformer_core.model_files import read_config, read_json, read_tokenizers
from transformer_core.training.adaptation import adapt_model
from transformer_core.training.checkpoint import Checkpoints
from transformer_core.training.config import TrainingConfig
from transformer_core.training.objectives import Translation
from transformer_core.training.progress import Listener, Silent
from transformer_core.training.trainer import Trainer, TrainingResult, TrainingTask

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
    run = replace(run, data=adopt_prepared(run.data))
    stored = open_run(run)
    if stored is not None:
        run = _recall(run, stored)
        if has_finished(run, stored):
            listener.on_message(f"training of {run.folder} is finished; --overwrite starts anew")
            return None
    device = choose_device(run.training.device)
    if run.training.threads is not None:
        torch.set_num_threads(run.training.threads)
    if stored is None:
        trainer = _begin(run, device, progress, listener)
    else:
        trainer = _go_on(run, stored, device, progress, listener)
    config = trainer.config
    listener.on_message(
        f"{trainer.model.num_parameters():,} parameters, {trainer.num_batches} batches an epoch, up to "
        f"{config.max_steps} steps; {config.precision} on {device.type} with {config.threads} threads, "
        f"seed {config.seed}"
    )
    result = trainer.run()
    record_result(run.folder, result)
    return result


def _begin(run: TrainingRun, device: torch.device, progress: Progress, listener: Listener) -> Trainer:
    """Make everything that a new run needs, and write down what it will be; a failure leaves nothing of it."""
    data_files = describe_data(run, None)  # first of all: nothing is removed or learned if a file is missing
    before = names_before(run.folder)
    try:
        run.folder.mkdir(parents=True, exist_ok=True)
        tokenizers = given_tokenizers(run) or choose_tokenizers(run.data, progress, listener.on_message)
        if run.pretraining is None:
            _translation(run, tokenizers)  # before anything is removed: it refuses a tokenizer that does not go with it
        clear_folder(run.folder)
        data = _prepare(run, tokenizers, data_files, progress, listener)
        start = build_model(run, tokenizers, data.training.statistics, listener.on_message)
        training = _complete(start.run, start.model, data.training, device, is_fine_tuning=is_fine_tuning(run))
        start = replace(start, run=replace(start.run, training=training))
        describe_run(start, tokenizers, data, data_files)
        return _trainer(start.run, start.model.to(device), data, tokenizers, listener)
    except BaseException:
        abandon_run(run.folder, before)
        raise


def _go_on(
    run: TrainingRun, stored: dict[str, Any], device: torch.device, progress: Progress, listener: Listener
) -> Trainer:
    """Make everything that a run needs to go on."""
    _compare_threads(stored, listener)
    data_files = describe_data(run, stored)
    config = read_config(run.folder)
    tokenizers = read_tokenizers(run.folder, config)
    compare_tokenizers(run.data, tokenizers, run.folder)
    data = _prepare(run, tokenizers, data_files, progress, listener)
    model = fresh_model(config, run.training.seed)
    if run.init_from is not None and Checkpoints(run.folder, 1).latest() is None:  # killed before it saved anything
        listener.on_message(take_weights(model, tokenizers, run.init_from).summary)
    fresh_parts = read_json(run.folder / "metadata.json").get("init_from", {}).get("fresh", ())
    adapt_model(model, run.adaptation, fresh_parts, run.training.seed)
    # the rates are those that the run began with
    run = replace(run, training=_complete(run, model, data.training, device, is_fine_tuning=False))
    continue_run(run, stored)
    return _trainer(run, model.to(device), data, tokenizers, listener)


def _recall(run: TrainingRun, stored: dict[str, Any]) -> TrainingRun:
    """Fill what is not given with what it was when the run began."""
    init_from = stored.get("init_from")
    return replace(
        run,
        data=recall_options(run.data, stored, run.folder),
        pretraining=None if run.pretraining is None else recall_options(run.pretraining, stored, run.folder),
        architecture=recall_options(run.architecture, stored, run.folder),
        adaptation=recall_options(run.adaptation, stored, run.folder),
        training=recall_options(run.training, stored, run.folder),
        init_from=run.init_from if init_from is None else Path(init_from),
    )


def _prepare(
    run: TrainingRun,
    tokenizers: Tokenizers,
    data_files: dict[str, list[dict[str, Any]]],
    progress: Progress,
    listener: Listener,
) -> PreparedData:
    """Make the corpora and say what they hold."""
    if run.data.prepared is not None:
        data = open_prepared(run.data.prepared, run.data.weights)
    else:
        key = data_key(run.data, tokenizers, data_files)
        processes = run.training.threads or num_cores()
        data = prepare_data(run.folder / DATA_FOLDER, run.data, tokenizers, key, progress, processes)
    report_data(data, run.data, listener.on_message, listener.on_warning)
    return data


def _trainer(
    run: TrainingRun, model: Transformer, data: PreparedData, tokenizers: Tokenizers, listener: Listener
) -> Trainer:
    if run.pretraining is not None:
        task = pretraining_task(run, run.pretraining, data, tokenizers[0])
    else:
        decode = ValidationDecoder(run, data, tokenizers)
        task = TrainingTask(_translation(run, tokenizers), data.training, data.validation, decode)
    return Trainer(model, task, run.training, run.folder, listener)


def _translation(run: TrainingRun, tokenizers: Tokenizers) -> Translation:
    assert isinstance(run.data, DataConfig), "raw text is for pretraining"
    data, regularization = run.data, None
    if data.bpe_dropout:
        regularization = SubwordRegularization(tokenizers, data.bpe_dropout, data.max_length)
    return Translation(regularization, run.training.r_drop)


def _compare_threads(stored: dict[str, Any], listener: Listener) -> None:
    before = stored.get("threads")
    if before != torch.get_num_threads():
        listener.on_warning(
            f"the run began with --threads {before} and goes on with {torch.get_num_threads()}: "
            "its weights will differ in the last bits from those of an uninterrupted run"
        )


def _complete(
    run: TrainingRun, model: Transformer, corpus: Corpus, device: torch.device, *, is_fine_tuning: bool
) -> TrainingConfig:
    """Fill in what follows from data, model and machine."""
    config = run.training
    special_ids = {name: getattr(model.config, name) for name in ("pad_id", "bos_id", "eos_id")}
    batching = Batching(batch_size=config.batch_size, batch_type=config.batch_type, seed=config.seed, **special_ids)
    return replace(
        complete_training(
            config,
            num_batches=batching.num_batches(corpus),
            d_model=model.config.decoder.d_model,
            is_fine_tuning=is_fine_tuning,
        ),
        precision=("bf16" if has_fast_bf16(device) else "fp32") if config.precision == "auto" else config.precision,
        device=device.type if config.device == "auto" else config.device,
        threads=torch.get_num_threads(),
    )
