"""`transduce train`: two text files in, a model out; the same command again goes on where it stopped."""

import os
from pathlib import Path
from typing import Annotated

import typer

from cli import console, options
from cli.settings import build
from tokenizer.config import Kind
from transformer_core.config import (
    Activation,
    DecoderMixer,
    EncoderMixer,
    FeedForwardKind,
    NormKind,
    Positions,
    SinusoidForm,
    TieEmbeddings,
)
from transformer_core.experiments.config import ArchitectureConfig, DataConfig, NormPlace, TrainingRun
from transformer_core.training.config import Metric, Schedule, TrainingConfig

__all__ = ["train"]

ARCHITECTURE = "Architecture"
OPTIMIZATION = "Optimisation"
STOPPING = "Stopping, validating, saving"

ARCHITECTURAL = {"rich_help_panel": ARCHITECTURE}
WHOLE = {"min": 1, **ARCHITECTURAL}


def _file(name: str, *short: str, help: str) -> typer.models.OptionInfo:
    """Declare an option that names a file; whether it can be read is the library's to say."""
    return typer.Option(  # type: ignore[no-any-return]
        name, *short, metavar="FILE", readable=False, help=help, rich_help_panel=options.INPUT_OUTPUT
    )


def train(
    context: typer.Context,
    train_src: options.TrainSources,
    train_tgt: options.TrainTargets,
    output: options.ModelOutput,
    valid_src: options.ValidSources = None,
    valid_tgt: options.ValidTargets = None,
    valid_size: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Training pairs held back where --valid-src is not given. Default: 5 %, at most 1000.",
            rich_help_panel=options.INPUT_OUTPUT,
        ),
    ] = None,
    tokenizer: Annotated[
        Path | None,
        _file("--tokenizer", help="Joint tokenizer. Default: learned from the training pairs."),
    ] = None,
    source_tokenizer: Annotated[
        Path | None, _file("--source-tokenizer", help="Tokenizer of the source alone; goes with --target-tokenizer.")
    ] = None,
    target_tokenizer: Annotated[Path | None, _file("--target-tokenizer", help="Tokenizer of the target alone.")] = None,
    vocabulary_size: Annotated[
        int | None,
        typer.Option(
            "--vocab-size",
            min=1,
            help="Entries of the tokenizer that is learned. Default: fits the data.",
            rich_help_panel=options.INPUT_OUTPUT,
        ),
    ] = None,
    tokenizer_kind: Annotated[
        Kind, typer.Option(help="Kind of the tokenizer that is learned.", rich_help_panel=options.INPUT_OUTPUT)
    ] = DataConfig.tokenizer_kind,
    max_length: Annotated[
        int,
        typer.Option(
            min=1,
            help="Tokens a side of a training pair may have; longer pairs are dropped and counted.",
            rich_help_panel=options.INPUT_OUTPUT,
        ),
    ] = DataConfig.max_length,
    errors: options.Errors = DataConfig.errors,
    init_from: Annotated[
        Path | None,
        typer.Option(
            "--init-from",
            "--finetune-from",
            "--finetune-from-model",
            metavar="FOLDER",
            readable=False,
            help="Model whose weights, architecture and tokenizer to start from (fine-tuning).",
            rich_help_panel=ARCHITECTURE,
        ),
    ] = None,
    overwrite: Annotated[
        bool,
        typer.Option(
            "--overwrite",
            help="Remove the run that the folder holds; start anew.",
            rich_help_panel=options.INPUT_OUTPUT,
        ),
    ] = False,
    arch: Annotated[
        options.Preset | None,
        typer.Option("--arch", "-a", help="Preset. Default: fits the data.", rich_help_panel=ARCHITECTURE),
    ] = None,
    num_layers: Annotated[int | None, typer.Option("--layers", help="Layers of encoder and decoder.", **WHOLE)] = None,
    num_encoder_layers: Annotated[
        int | None, typer.Option("--enc-layers", "--encoder-layers", help="Layers of the encoder.", **WHOLE)
    ] = None,
    num_decoder_layers: Annotated[
        int | None, typer.Option("--dec-layers", "--decoder-layers", help="Layers of the decoder.", **WHOLE)
    ] = None,
    d_model: Annotated[
        int | None, typer.Option("--d-model", "--hidden-size", help="Width of the residual stream.", **WHOLE)
    ] = None,
    encoder_d_model: Annotated[int | None, typer.Option("--enc-d-model", help="Width of the encoder.", **WHOLE)] = None,
    decoder_d_model: Annotated[int | None, typer.Option("--dec-d-model", help="Width of the decoder.", **WHOLE)] = None,
    num_heads: Annotated[int | None, typer.Option("--heads", "--num-heads", help="Attention heads.", **WHOLE)] = None,
    d_ff: Annotated[
        int | None, typer.Option("--ffn-dim", "--d-ff", help="Inner width of the feed-forward.", **WHOLE)
    ] = None,
    encoder_d_ff: Annotated[int | None, typer.Option("--enc-ffn-dim", help="The encoder's.", **WHOLE)] = None,
    decoder_d_ff: Annotated[int | None, typer.Option("--dec-ffn-dim", help="The decoder's.", **WHOLE)] = None,
    encoder_mixer: Annotated[
        EncoderMixer,
        typer.Option("--encoder-mixer", "--enc-mixer", help="Sequence layer of the encoder.", **ARCHITECTURAL),
    ] = ArchitectureConfig.encoder_mixer,
    decoder_mixer: Annotated[
        DecoderMixer,
        typer.Option("--decoder-mixer", "--dec-mixer", help="Sequence layer of the decoder.", **ARCHITECTURAL),
    ] = ArchitectureConfig.decoder_mixer,
    bidirectional: Annotated[
        bool,
        typer.Option(help="gru or lstm in the encoder: half the width reads each way.", **ARCHITECTURAL),
    ] = ArchitectureConfig.bidirectional,
    kernel_width: Annotated[
        int, typer.Option("--kernel-width", help="conv: positions that a filter sees.", **WHOLE)
    ] = ArchitectureConfig.kernel_width,
    num_key_value_heads: Annotated[
        int | None,
        typer.Option(
            "--kv-heads", "--heads-kv", help="Heads with keys and values of their own. Default: all.", **WHOLE
        ),
    ] = None,
    norm: Annotated[
        NormPlace,
        typer.Option(help="A norm before each sublayer or after it.", rich_help_panel=ARCHITECTURE),
    ] = ArchitectureConfig.norm,
    norm_kind: Annotated[
        NormKind, typer.Option(help="LayerNorm or RMSNorm.", **ARCHITECTURAL)
    ] = ArchitectureConfig.norm_kind,
    feed_forward: Annotated[
        FeedForwardKind, typer.Option(help="plain: two matrices; glu, swiglu: a third as a gate.", **ARCHITECTURAL)
    ] = ArchitectureConfig.feed_forward,
    activation: Annotated[
        Activation, typer.Option(help="Of the plain feed-forward.", rich_help_panel=ARCHITECTURE)
    ] = ArchitectureConfig.activation,
    positions: Annotated[
        Positions, typer.Option(help="How a token knows its place.", rich_help_panel=ARCHITECTURE)
    ] = ArchitectureConfig.positions,
    sinusoid_form: Annotated[
        SinusoidForm, typer.Option(help="Whose sinusoids.", rich_help_panel=ARCHITECTURE)
    ] = ArchitectureConfig.sinusoid_form,
    max_positions: Annotated[
        int, typer.Option(help="Rows of learned positions: their hard limit.", **WHOLE)
    ] = ArchitectureConfig.max_positions,
    query_key_norm: Annotated[
        bool,
        typer.Option("--query-key-norm/--no-query-key-norm", help="Normalise queries and keys.", **ARCHITECTURAL),
    ] = ArchitectureConfig.query_key_norm,
    scale_attention: Annotated[
        bool, typer.Option(help="Divide attention's scores by √d_head.", **ARCHITECTURAL)
    ] = ArchitectureConfig.scale_attention,
    tie_embeddings: Annotated[
        TieEmbeddings | None,
        typer.Option(
            help="Which of source, target and output embedding are one. Default: all if the vocabulary is joint.",
            rich_help_panel=ARCHITECTURE,
        ),
    ] = None,
    dropout: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.999,
            help="Of embeddings and sublayers. Default: 0.3 for a small corpus, 0.1 for a large one.",
            rich_help_panel=ARCHITECTURE,
        ),
    ] = None,
    attention_dropout: Annotated[
        float, typer.Option(min=0, max=0.999, help="Of attention weights.", rich_help_panel=ARCHITECTURE)
    ] = ArchitectureConfig.attention_dropout,
    activation_dropout: Annotated[
        float, typer.Option(min=0, max=0.999, help="Inside the feed-forward.", rich_help_panel=ARCHITECTURE)
    ] = ArchitectureConfig.activation_dropout,
    batch_size: Annotated[
        int,
        typer.Option(
            "--batch-size",
            "--max-tokens",
            min=1,
            help="Size of a batch, in units of --batch-type.",
            rich_help_panel=OPTIMIZATION,
        ),
    ] = TrainingConfig.batch_size,
    batch_type: Annotated[
        options.BatchTypeChoice,
        typer.Option(help="tokens: padded, of the longer side; sentences: pairs.", rich_help_panel=OPTIMIZATION),
    ] = TrainingConfig.batch_type,
    accumulate: Annotated[
        int,
        typer.Option(
            "--accumulate",
            "--update-freq",
            "--accum-count",
            "--gradient-accumulation-steps",
            min=1,
            help="Batches summed into one update.",
            rich_help_panel=OPTIMIZATION,
        ),
    ] = TrainingConfig.accumulate,
    learning_rate: Annotated[
        float | None,
        typer.Option(
            "--lr",
            "--learning-rate",
            "--learn-rate",
            help="Peak of the learning rate. Default: 0.5 / d_model.",
            rich_help_panel=OPTIMIZATION,
        ),
    ] = None,
    lr_schedule: Annotated[
        Schedule,
        typer.Option("--lr-schedule", "--lr-scheduler", help="How it falls.", rich_help_panel=OPTIMIZATION),
    ] = TrainingConfig.lr_schedule,
    warmup_steps: Annotated[
        int | None,
        typer.Option(
            "--warmup-steps",
            "--warmup-updates",
            "--lr-warmup",
            min=0,
            help="Updates in which it rises. Default: a tenth of the steps.",
            rich_help_panel=OPTIMIZATION,
        ),
    ] = None,
    beta1: Annotated[
        float, typer.Option(help="AdamW's decay of the gradients' mean.", rich_help_panel=OPTIMIZATION)
    ] = TrainingConfig.beta1,
    beta2: Annotated[
        float, typer.Option(help="AdamW's decay of their squares' mean.", rich_help_panel=OPTIMIZATION)
    ] = TrainingConfig.beta2,
    weight_decay: Annotated[
        float, typer.Option(help="AdamW's decay of matrices.", rich_help_panel=OPTIMIZATION)
    ] = TrainingConfig.weight_decay,
    label_smoothing: Annotated[
        float,
        typer.Option(help="Share of the target spread over the vocabulary.", rich_help_panel=OPTIMIZATION),
    ] = TrainingConfig.label_smoothing,
    clip_norm: Annotated[
        float,
        typer.Option(
            "--clip-norm",
            "--max-grad-norm",
            help="Longest gradient; 0 does not clip.",
            rich_help_panel=OPTIMIZATION,
        ),
    ] = TrainingConfig.clip_norm,
    max_steps: Annotated[
        int | None,
        typer.Option(
            "--max-steps",
            "--max-updates",
            "--max-update",
            "--train-steps",
            min=1,
            help="Updates to make. Default: 40 epochs, between 2,000 and 100,000.",
            rich_help_panel=STOPPING,
        ),
    ] = None,
    max_epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the data to make.", rich_help_panel=STOPPING)
    ] = None,
    max_time: Annotated[
        float | None,
        typer.Option(help="Minutes after which to save and end; shapes nothing.", rich_help_panel=STOPPING),
    ] = None,
    metric: Annotated[
        Metric, typer.Option(help="What selects the best weights.", rich_help_panel=STOPPING)
    ] = TrainingConfig.metric,
    patience: Annotated[
        int,
        typer.Option(
            "--patience",
            "--early-stopping",
            min=0,
            help="Validations without a better value before training ends; 0: never.",
            rich_help_panel=STOPPING,
        ),
    ] = TrainingConfig.patience,
    valid_every: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Updates between validations. Default: a fortieth of the steps, at most 2,000.",
            rich_help_panel=STOPPING,
        ),
    ] = None,
    valid_beam_size: Annotated[
        int, typer.Option(min=1, help="Beam of validation, for metrics of text.", rich_help_panel=STOPPING)
    ] = TrainingConfig.valid_beam_size,
    save_every: Annotated[
        int | None,
        typer.Option(min=1, help="Updates between checkpoints. Default: --valid-every.", rich_help_panel=STOPPING),
    ] = None,
    keep_last: Annotated[
        int, typer.Option(min=1, help="Checkpoints kept.", rich_help_panel=STOPPING)
    ] = TrainingConfig.keep_last,
    average_last: Annotated[
        int,
        typer.Option(
            min=0,
            help="Snapshots, one per validation, whose mean is tried at the end; 0: none.",
            rich_help_panel=STOPPING,
        ),
    ] = TrainingConfig.average_last,
    log_every: Annotated[
        int, typer.Option(min=1, help="Updates between log lines.", rich_help_panel=options.RUNTIME)
    ] = TrainingConfig.log_every,
    tensorboard: Annotated[
        bool,
        typer.Option(
            "--tensorboard",
            help="Write TensorBoard events to FOLDER/tensorboard; needs the extra called tensorboard.",
            rich_help_panel=options.RUNTIME,
        ),
    ] = False,
    seed: options.Seed = TrainingConfig.seed,
    precision: options.Precision = TrainingConfig.precision,
    device: options.Device = TrainingConfig.device,
    threads: options.Threads = None,
) -> None:
    """Train a model on pairs of lines; run the same command again to go on where it stopped.

    Two files are enough: a vocabulary is learned from them and some pairs are held back to validate with.

    transduce train -s train.en -t train.de --valid-src dev.en --valid-tgt dev.de -o model
    """
    values = context.params
    data = build(DataConfig, values)
    architecture = build(ArchitectureConfig, values)
    training = build(TrainingConfig, values)
    # oneDNN keeps code for every shape it meets; without a limit, memory grows with the length of the run
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "64")
    from cli.training_display import training_display
    from transformer_core.experiments.train_from_text import train_from_text

    run = TrainingRun(
        folder=output,
        data=data,
        architecture=architecture,
        training=training,
        init_from=init_from,
        overwrite=overwrite,
        command=console.command_line(),
    )
    with training_display(output, writes_tensorboard=tensorboard) as listener:
        result = train_from_text(run, listener, console.progress)
    if result is not None and result.is_finished:
        console.info(f"{result.reason}; the model is in {output}: transduce translate -m {output} < new.txt")
    elif result is not None:
        console.info(f"{result.reason}; the same command goes on from there")
