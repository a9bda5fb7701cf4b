"""`transduce pretrain`: raw text in, a pretrained encoder or a denoising model out; the same command again goes on."""

from typing import Annotated

import typer

from cli import corpus_options, training_options
from cli.commands.train import run_training, train, train_in_this_job
from cli.inherited_options import with_options_of
from cli.settings import build
from transformer_core.experiments.config import PRETRAINING_DEFAULTS, ObjectiveName, PretrainingConfig
from transformer_core.experiments.text_config import RawTextConfig
from transformer_core.training.config import BatchType, PretrainingMetric, TrainingConfig

__all__ = ["pretrain"]

# What pairs have and raw text has not.
OF_PAIRS = (
    *("train_src", "train_tgt", "valid_src", "valid_tgt", "input_format", "columns"),
    *("source_tokenizer", "target_tokenizer", "bpe_dropout", "unigram_alpha", "tags", "shortlist"),
    *("init_from", "init_checkpoint", "freeze", "lora_rank", "lora_alpha", "r_drop", "valid_beam_size"),
)


@with_options_of(train, without=OF_PAIRS)
def pretrain(
    context: typer.Context,
    input: corpus_options.RawText = [],  # noqa: B006 - Typer copies it
    objective: Annotated[
        ObjectiveName,
        typer.Option(
            help="masked: an encoder predicts hidden tokens; denoising: a whole model writes lines anew.",
            rich_help_panel=training_options.OPTIMIZATION,
        ),
    ] = PretrainingConfig.objective,
    whole_words: Annotated[
        bool,
        typer.Option(
            "--whole-words",
            help="Of masked: hide the tokens of a word together.",
            rich_help_panel=training_options.OPTIMIZATION,
        ),
    ] = PretrainingConfig.whole_words,
    valid: corpus_options.ValidRawText = None,
    dropout: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.999,
            help="Of embeddings and sublayers. Default: 0.1.",
            rich_help_panel=training_options.ARCHITECTURE,
        ),
    ] = None,
    batch_type: Annotated[
        BatchType,
        typer.Option(help="tokens: padded; sentences: lines.", rich_help_panel=training_options.OPTIMIZATION),
    ] = TrainingConfig.batch_type,
    optimizer: training_options.Optimizer = PRETRAINING_DEFAULTS.optimizer,
    label_smoothing: training_options.LabelSmoothing = PRETRAINING_DEFAULTS.label_smoothing,
    metric: Annotated[
        PretrainingMetric,
        typer.Option(
            help="What selects the best weights; accuracy: the share of predicted tokens that are right.",
            rich_help_panel=training_options.STOPPING,
        ),
    ] = "loss",
) -> None:
    """Pretrain on raw text, which nobody has to translate or label; run the same command again to go on.

    transduce pretrain -i mono.en -i mono.de --tokenizer joint.json -o pretrained

    transduce train -s train.en -t train.de --init-from pretrained -o model

    masked (BERT): 15 % of the tokens are chosen, most of them hidden, and an encoder predicts them from the rest.
    `transduce fill` shows what it has learned; a model that is trained from it gets a fresh decoder.

    denoising (BART): spans that hold 30 % of the tokens are replaced by one mask each, and a whole model, decoder
    included, writes the line anew.
    """
    values = context.params
    run_training(context, build(RawTextConfig, values), train_in_this_job, build(PretrainingConfig, values))
