"""Teach a small model what a large one does: sequence-level knowledge distillation (Kim and Rush 2016) in one call.

The teacher, or several together (Freitag et al. 2017), translates the source lines, and the student is trained on what
was written, as on any other pairs (experiments/train_from_text.py). Run with the same arguments, it goes on where it
stopped, whatever it was doing.
"""

from dataclasses import replace

import torch

from transformer_core.device import choose_device
from transformer_core.errors import ConfigError
from transformer_core.experiments.config import TrainingRun
from transformer_core.experiments.distillation_config import DistillationConfig
from transformer_core.experiments.distilled_text import (
    DistilledText,
    begin_distilled_text,
    write_distilled_text,
)
from transformer_core.experiments.locked_folder import locked_folder
from transformer_core.experiments.progress import Progress, no_progress
from transformer_core.experiments.run_folder import open_run
from transformer_core.experiments.starting_point import require_possible
from transformer_core.experiments.teacher import Teacher
from transformer_core.experiments.text_config import DataConfig
from transformer_core.experiments.train_from_text import require_beginning, train_from_text
from transformer_core.model_files import tokenizer_paths
from transformer_core.provenance import describe_file
from transformer_core.training.distributed import this_job
from transformer_core.training.progress import Listener, Silent
from transformer_core.training.trainer import TrainingResult

__all__ = ["distill"]


def distill(
    config: DistillationConfig, run: TrainingRun, listener: Listener | None = None, progress: Progress = no_progress
) -> TrainingResult | None:
    """Translate and train, or go on with it; None when an earlier run has finished already.

    Args:
        config: who teaches, and from which lines.
        run: how the student is trained; its training pairs are `distilled_files` of its folder.
        listener: is told how it goes.
        progress: is shown how far translating and preparing are.

    Raises:
        ConfigError: options do not fit together, or not to what the folder holds.
        DataError: the text cannot be read or has nothing to learn from.
        ModelError: the teacher is no model, or the folder is damaged.
        Interrupted: a signal came; everything is saved.
    """
    listener = listener or Silent()
    if not this_job().is_alone:
        raise ConfigError(
            "distill is one process: a teacher that torchrun started several times would write each line as often; "
            "distill without it, or train the student on the pairs in its folder by torchrun"
        )
    run = _with_teacher(config, run)
    is_new = open_run(run) is None
    device = choose_device(run.training.device)
    if run.training.threads is not None:
        torch.set_num_threads(run.training.threads)
    with locked_folder(run.folder, "the student"):
        _teach(config, run, device, listener, progress, is_new=is_new)
    return train_from_text(run, listener, progress)


def _teach(
    config: DistillationConfig,
    run: TrainingRun,
    device: torch.device,
    listener: Listener,
    progress: Progress,
    *,
    is_new: bool,
) -> None:
    """Write what is not written yet of the text that the student learns from."""
    text = begin_distilled_text(config, run.folder, overwrite=run.overwrite)
    if is_new:
        require_beginning(run)
    if not text.is_complete:
        teacher = Teacher(config, device, run.training.precision)
        if text.num_lines:
            listener.on_message(f"going on after {text.num_lines:,} lines that {_names(config)} translated")
        text = write_distilled_text(config, run.folder, text, teacher, progress)
        _report(text, teacher, len(config.teachers), listener)
    elif is_new:
        listener.on_message(f"the {text.num_pairs:,} pairs that {_names(config)} made are there already")


def _with_teacher(config: DistillationConfig, run: TrainingRun) -> TrainingRun:
    """Complete the run by what the teacher brings, and see what would stop it before hours are spent on translating.

    Raises:
        ConfigError: options do not fit together, or not to what the folder holds.
        DataError: a validation file is missing.
    """
    data = run.data
    assert isinstance(data, DataConfig), "a teacher makes pairs"
    if run.folder.resolve() in [folder.resolve() for folder in config.teachers]:
        raise ConfigError(f"the teacher and --output are both {run.folder}; name another folder for the student")
    run = replace(run, is_taught=True)
    is_new = open_run(run) is None
    names_tokenizer = data.tokenizer or data.source_tokenizer or run.init_from
    wants_own = names_tokenizer or data.vocabulary_size or data.tokenizer_kind != "auto"
    if is_new and not wants_own:
        joint, source, target = tokenizer_paths(config.teachers[0])
        run = replace(run, data=replace(data, tokenizer=joint, source_tokenizer=source, target_tokenizer=target))
    for path in (*data.valid_src, *data.valid_tgt):
        describe_file(path)
    if is_new:
        require_possible(run)
    return run


def _names(config: DistillationConfig) -> str:
    """Who teaches."""
    return " and ".join(map(str, config.teachers))


def _report(text: DistilledText, teacher: Teacher, num_teachers: int, listener: Listener) -> None:
    who = "the teacher" if num_teachers == 1 else f"{num_teachers} teachers"
    listener.on_message(f"{who} translated {text.num_lines:,} lines into {text.num_pairs:,} pairs ({teacher.search})")
    if text.num_left_out:
        listener.on_warning(
            f"{text.num_left_out:,} lines are left out: no hypothesis came to its end within the limit of length"
        )
