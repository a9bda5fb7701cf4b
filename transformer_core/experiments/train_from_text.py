"""Train a model from text files: what `transduce train` and `transduce pretrain` do, in one call.

Text → tokenizer → corpora of ids → a config completed from the data → the trainer → a model folder that describes
itself. Run with the same arguments, it goes on where it stopped. In a job of several processes the first one makes all
of this; the others find it in the folder, as if they went on with a run.
"""

from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch

from tokenizer import Tokenizer, TokenizerConfig
from transformer_core.data.batching import Batching
from transformer_core.data.shards import Corpus
from transformer_core.data.subword_regularization import SubwordRegularization, bpe_cuts, unigram_cuts
from transformer_core.device import choose_device, has_fast_bf16
from transformer_core.errors import ConfigError
from transformer_core.experiments.config import TrainingRun
from transformer_core.experiments.corpus_preparation import PreparedData, prepare_data, report_data
from transformer_core.experiments.idle_options import idle_options
from transformer_core.experiments.locked_folder import locked_folder
from transformer_core.experiments.prepared_folder import adopt_prepared, check_tokenizers, open_prepared
from transformer_core.experiments.pretraining import pretraining_task
from transformer_core.experiments.progress import Progress, no_progress
from transformer_core.experiments.recipe import complete_training, default_batch_size
from transformer_core.experiments.run_folder import (
    DATA_FOLDER,
    abandon_run,
    clear_folder,
    continue_run,
    data_key,
    describe_run,
    disown_run,
    has_finished,
    names_before,
    open_run,
    recall_start,
    record_result,
    was_begun_by,
)
from transformer_core.experiments.same_files import compare_tokenizers, describe_data, require_same_start
from transformer_core.experiments.shortlist_learning import write_shortlist
from transformer_core.experiments.starting_point import (
    build_model,
    fresh_model,
    given_tokenizers,
    is_fine_tuning,
    require_possible,
    take_weights,
)
from transformer_core.experiments.text_config import DataConfig
from transformer_core.experiments.texts import read_rows, validation_texts
from transformer_core.experiments.training_file import recall_options
from transformer_core.experiments.validation import ValidationDecoder
from transformer_core.experiments.vocabulary_choice import Tokenizers, choose_tokenizers, tokenizer_files
from transformer_core.lexicon.config import ShortlistConfig
from transformer_core.model import Transformer
from transformer_core.model_files import read_config, read_json, read_tokenizers
from transformer_core.training.adaptation import adapt_model
from transformer_core.training.checkpoint import Checkpoints
from transformer_core.training.config import Precision, TrainingConfig
from transformer_core.training.distributed import ALONE, Job, joined
from transformer_core.training.objectives import Translation
from transformer_core.training.progress import Listener, Silent
from transformer_core.training.trainer import Trainer, TrainingResult, TrainingTask
from transformer_core.worker_processes import num_cores

__all__ = ["require_beginning", "train_from_text"]


@dataclass(frozen=True, kw_only=True)
class _Prepared:
    """What the trainer takes."""

    run: TrainingRun  # complete
    model: Transformer
    task: TrainingTask


def train_from_text(
    run: TrainingRun, listener: Listener | None = None, progress: Progress = no_progress, job: Job = ALONE
) -> TrainingResult | None:
    """Train, or go on training; None when an earlier run has finished already.

    Args:
        run: what to train, on what, and where it goes.
        listener: is told how it goes; in a job, only that of the first process.
        progress: shows how preparation goes.
        job: the processes that do this together; each of them calls this function.

    Raises:
        ConfigError: options do not fit together, or not to the run that the folder holds.
        DataError: the text cannot be read or has nothing to learn from.
        ModelError: the folder is damaged, or `init_from` is no model.
        TrainingError: training has diverged, or another process of the job has ended.
        Interrupted: a signal came; everything is saved.
    """
    if listener is None or not job.is_first:
        listener = Silent()
    run = replace(run, data=adopt_prepared(run.data))
    with locked_folder(run.folder, "the model") if job.is_first else nullcontext():
        return _train(run, listener, progress, job)


def _train(run: TrainingRun, listener: Listener, progress: Progress, job: Job) -> TrainingResult | None:
    """Train in a folder that no other job writes into."""
    if job.is_restarted and was_begun_by(run.folder, job.id):
        run = replace(run, overwrite=False)  # it has overwritten what was there
    elif run.overwrite and job.is_first and not job.is_restarted:
        disown_run(run.folder, job.id)  # so that it is overwritten though this job should be started again before
    stored = open_run(run)
    if stored is not None:
        run = _recall(run, stored)
        if has_finished(run, stored):
            listener.on_message(f"training of {run.folder} is finished; --overwrite starts anew")
            return None
    device = choose_device(job.device_name(run.training.device))
    if run.training.threads is not None:
        torch.set_num_threads(run.training.threads)
    with joined(job, device):
        with job.first_before_others():
            prepared = _prepare_run(run, stored, device, progress, listener, job)
        config = prepared.run.training
        trainer = Trainer(prepared.model.to(device), prepared.task, config, run.folder, listener, job)
        listener.on_message(
            f"{trainer.model.num_parameters():,} parameters, {trainer.num_batches} batches an epoch, up to "
            f"{trainer.max_steps} steps; {config.precision} on {device.type} with {config.threads} threads"
            f"{'' if job.is_alone else f' in each of {job.world_size} processes'}, seed {config.seed}"
        )
        for sentence in idle_options(prepared.run, trainer.model.config, job.world_size, is_new=stored is None):
            listener.on_warning(sentence)
        if config.warmup_steps is not None and config.warmup_steps >= trainer.max_steps > 1:
            listener.on_warning(
                f"--warmup-steps {config.warmup_steps} are as many as training has updates ({trainer.max_steps}), and "
                f"the rate rises all the time; by default it would rise for {trainer.max_steps // 10} of them"
            )
        result = trainer.run()
        if job.is_first:
            if result.is_finished and isinstance(prepared.run.data, DataConfig) and prepared.run.data.shortlist:
                write_shortlist(run.folder, prepared.task.training, ShortlistConfig(), progress)
            record_result(run.folder, result)
    return result


def require_beginning(run: TrainingRun) -> None:
    """See what would keep a new run from beginning, whatever its training text: it may be long in the making.

    Raises:
        ConfigError: options do not go with the tokenizers that are given.
        DataError: the validation text cannot be read.
        TokenizerConfigError: a vocabulary that is learned cannot be of that size.
        TokenizerFileError: a tokenizer that is given is none.
    """
    if files := tokenizer_files(run.data):
        _translation(run, (Tokenizer.load(files[0]), Tokenizer.load(files[-1])))
    elif run.data.tokenizer_kind != "auto" and run.data.vocabulary_size is not None:
        TokenizerConfig(kind=run.data.tokenizer_kind, vocabulary_size=run.data.vocabulary_size)
    given_tokenizers(run)
    for text in validation_texts(run.data):
        for _ in read_rows(text, run.data):
            pass


def _prepare_run(
    run: TrainingRun,
    stored: dict[str, Any] | None,
    device: torch.device,
    progress: Progress,
    listener: Listener,
    job: Job,
) -> _Prepared:
    """Begin a run, or go on with it, be it one that the first process of this job has just begun."""
    if stored is None and job.is_first:
        return _begin(run, device, progress, listener, job)
    if stored is None:
        stored = open_run(replace(run, overwrite=False))
        if stored is None:
            raise ConfigError(
                f"{run.folder}: does not hold what the first process wrote there; all machines of a job must share it"
            )
        run = _recall(run, stored)
    return _go_on(run, stored, device, progress, listener, job)


def _begin(run: TrainingRun, device: torch.device, progress: Progress, listener: Listener, job: Job) -> _Prepared:
    """Make everything that a new run needs, and write down what it will be; a failure leaves the folder as it was."""
    data_files = describe_data(run, None)  # first of all: nothing is removed or learned if a file is missing
    before = names_before(run.folder)
    require_possible(run)
    try:
        tokenizers = given_tokenizers(run) or choose_tokenizers(run.data, progress, listener.on_message)
        if run.pretraining is None:
            _translation(run, tokenizers)  # before anything is removed: it refuses a tokenizer that does not go with it
        clear_folder(run.folder)
        data = _prepare(run, tokenizers, data_files, progress, listener)
        start = build_model(run, tokenizers, data.training.statistics, listener.on_message)
        training = _complete(
            start.run, start.model, data.training, device, job.world_size, is_fine_tuning=is_fine_tuning(run)
        )
        start = replace(start, run=replace(start.run, training=training))
        describe_run(start, tokenizers, data, data_files, job.id)
        return _Prepared(run=start.run, model=start.model, task=_task(start.run, data, tokenizers))
    except BaseException:
        abandon_run(run.folder, before)
        raise


def _go_on(
    run: TrainingRun, stored: dict[str, Any], device: torch.device, progress: Progress, listener: Listener, job: Job
) -> _Prepared:
    """Make everything that a run needs to go on."""
    _compare_threads(stored, listener)
    data_files = describe_data(run, stored)
    config = read_config(run.folder)
    tokenizers = read_tokenizers(run.folder, config)
    compare_tokenizers(run.data, tokenizers, run.folder)
    data = _prepare(run, tokenizers, data_files, progress, listener)
    model = fresh_model(config, run.training.seed)
    state = Checkpoints(run.folder, 1).state()
    if run.init_from is not None and state is None:  # killed before it saved anything
        require_same_start(run)
        listener.on_message(take_weights(model, tokenizers, run.init_from, run.init_checkpoint).summary)
    fresh_parts = read_json(run.folder / "metadata.json").get("init_from", {}).get("fresh", ())
    adapt_model(model, run.adaptation, fresh_parts, run.training.seed)
    # the rates are those that the run began with, and so is what an update is made of: more epochs are as many updates
    num_processes = job.world_size if state is None else max(1, state.micro_batches // run.training.accumulate)
    run = replace(run, training=_complete(run, model, data.training, device, num_processes, is_fine_tuning=False))
    if job.is_first:
        continue_run(run, stored)
    return _Prepared(run=run, model=model, task=_task(run, data, tokenizers))


def _recall(run: TrainingRun, stored: dict[str, Any]) -> TrainingRun:
    """Fill what is not given with what it was when the run began."""
    return replace(
        recall_start(run, stored),
        data=recall_options(run.data, stored, run.folder),
        pretraining=None if run.pretraining is None else recall_options(run.pretraining, stored, run.folder),
        architecture=recall_options(run.architecture, stored, run.folder),
        adaptation=recall_options(run.adaptation, stored, run.folder),
        training=recall_options(run.training, stored, run.folder),
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
        check_tokenizers(run.data.prepared, data, tokenizers)
    else:
        key = data_key(run.data, tokenizers, data_files)
        processes = run.training.threads or num_cores()
        data = prepare_data(run.folder / DATA_FOLDER, run.data, tokenizers, key, progress, processes)
    report_data(data, run.data, listener.on_message, listener.on_warning)
    return data


def _task(run: TrainingRun, data: PreparedData, tokenizers: Tokenizers) -> TrainingTask:
    if run.pretraining is not None:
        return pretraining_task(run, run.pretraining, data, tokenizers[0])
    decode = ValidationDecoder(run, data, tokenizers)
    return TrainingTask(_translation(run, tokenizers), data.training, data.validation, decode)


def _translation(run: TrainingRun, tokenizers: Tokenizers) -> Translation:
    assert isinstance(run.data, DataConfig), "raw text is for pretraining"
    data, regularization = run.data, None
    if data.bpe_dropout:
        regularization = SubwordRegularization(tokenizers, bpe_cuts(tokenizers, data.bpe_dropout), data.max_length)
    if data.unigram_alpha is not None:
        regularization = SubwordRegularization(
            tokenizers, unigram_cuts(tokenizers, data.unigram_alpha), data.max_length
        )
    return Translation(regularization, run.training.r_drop)


def _compare_threads(stored: dict[str, Any], listener: Listener) -> None:
    before = stored.get("threads")
    if before != torch.get_num_threads():
        listener.on_warning(
            f"the run began with --threads {before} and goes on with {torch.get_num_threads()}: "
            "its weights will differ in the last bits from those of an uninterrupted run"
        )


def _complete(
    run: TrainingRun,
    model: Transformer,
    corpus: Corpus,
    device: torch.device,
    num_processes: int,
    *,
    is_fine_tuning: bool,
) -> TrainingConfig:
    """Fill in what follows from data, model and machine."""
    config = run.training
    batch_size = config.batch_size or default_batch_size(corpus.statistics, config.batch_type)
    batching = Batching.of_model(model.config, batch_size=batch_size, batch_type=config.batch_type, seed=config.seed)
    return replace(
        complete_training(
            replace(config, batch_size=batch_size),
            num_batches=batching.num_batches(corpus),
            num_processes=num_processes,
            d_model=model.config.decoder.d_model,
            is_fine_tuning=is_fine_tuning,
        ),
        precision=_fast_precision(device, config) if config.precision == "auto" else config.precision,
        device=device.type if config.device == "auto" else config.device,
        threads=torch.get_num_threads(),
    )


def _fast_precision(device: torch.device, config: TrainingConfig) -> Precision:
    """Choose what --precision auto means: half of the bits where the device computes faster with them."""
    if has_fast_bf16(device):
        return "bf16"
    return "fp16" if device.type == "cuda" and not config.fsdp else "fp32"
