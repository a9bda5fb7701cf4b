"""`transduce distill`: a large model translates the training text, and a small one learns from what it wrote."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import settings
from cli.commands.train import run_training, train
from cli.completion import complete_model
from cli.corpus_options import file_option
from cli.inherited_options import with_options_of
from transformer_core.decoding.config import LengthPenaltyType
from transformer_core.experiments.config import TrainingRun
from transformer_core.experiments.distillation_config import DistillationConfig, distilled_files
from transformer_core.experiments.text_config import DataConfig

if TYPE_CHECKING:
    from transformer_core.experiments.progress import Progress
    from transformer_core.training.progress import Listener
    from transformer_core.training.trainer import TrainingResult

__all__ = ["distill"]

TEACHING = "Teacher"
SEARCH = ("beam_size", "length_penalty", "length_penalty_type")


def _teacher_defaults(values: Mapping[str, Any]) -> Mapping[str, object]:
    """Read how the teacher is used to search."""
    from transformer_core.decoding.generation import model_search
    from transformer_core.model_files import read_json

    path = Path(values["teachers"][0]) / "generation.json"
    generation = read_json(path)
    found = {name: generation[name] for name in (*SEARCH, "greedy") if name in generation}
    search = model_search(found, str(path))
    if found.pop("greedy", False):
        found["beam_size"] = search.beam_size
    return found


@settings.model_defaults(_teacher_defaults)
@with_options_of(train, without=("prepared", "weights", "tags", "input_format", "columns"))
def distill(
    context: typer.Context,
    teachers: Annotated[
        list[Path],
        typer.Argument(
            metavar="TEACHER",
            readable=False,
            autocompletion=complete_model,
            help="Model folder of the model that translates; of several, which do it together.",
        ),
    ],
    train_src: Annotated[
        list[Path],
        file_option(
            "--train-src",
            "-s",
            "--source",
            "--src",
            help="Source lines for the teacher to translate; repeat it for several files.",
        ),
    ],
    train_tgt: Annotated[
        list[Path] | None,
        file_option(
            "--train-tgt",
            "-t",
            "--target",
            "--tgt",
            help="Their targets, where they are known: of the teacher's beam the hypotheses nearest to them are "
            "learned (by chrF), not the best ones.",
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None, file_option("--tokenizer", help="Joint tokenizer of the student. Default: the teacher's.")
    ] = None,
    tag: Annotated[
        str | None,
        typer.Option(help="Of a teacher for several directions: what to translate into.", rich_help_panel=TEACHING),
    ] = None,
    beam_size: Annotated[
        int,
        typer.Option(
            "--beam-size", "-b", "--beam", "--num-beams", min=1, help="Of its search.", rich_help_panel=TEACHING
        ),
    ] = DistillationConfig.beam_size,
    n_best: Annotated[
        int,
        typer.Option(
            "--n-best",
            "--nbest",
            min=1,
            help="Different hypotheses of a line that are learned, at most.",
            rich_help_panel=TEACHING,
        ),
    ] = DistillationConfig.n_best,
    length_penalty: Annotated[
        float,
        typer.Option(
            "--length-penalty",
            "--lenpen",
            "--alpha",
            "--length-penalty-alpha",
            help="Of its search: how much longer hypotheses are favoured.",
            rich_help_panel=TEACHING,
        ),
    ] = DistillationConfig.length_penalty,
    length_penalty_type: Annotated[
        LengthPenaltyType,
        typer.Option("--length-penalty-type", help="As of translate.", rich_help_panel=TEACHING),
    ] = DistillationConfig.length_penalty_type,
) -> None:
    """Teach a small model what a large one does; run the same command again to go on where it stopped.

    transduce distill en-de-big -s train.en --valid-src dev.en --valid-tgt dev.de --arch tiny -o en-de-tiny

    The teacher translates the lines, and the student is trained on what it wrote, by every option of `train`
    (sequence-level knowledge distillation, Kim and Rush 2016). The pairs stay in FOLDER/distilled.

    The lines need no targets: more of them than the teacher was trained on are welcome.
    """
    values = context.params
    config = settings.build(DistillationConfig, values, references=values["train_tgt"])
    sources, targets = distilled_files(values["output"])
    data = settings.build(DataConfig, values, train_src=(sources,), train_tgt=(targets,))
    run_training(context, data, partial(_distill, config))


def _distill(
    config: DistillationConfig, run: TrainingRun, listener: "Listener", progress: "Progress"
) -> "TrainingResult | None":
    from transformer_core.experiments.distill import distill as teach

    return teach(config, run, listener, progress)
