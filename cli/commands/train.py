"""`transduce train`: two text files in, a model out; the same command again goes on where it stopped."""

import shlex
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli import console, corpus_options, format_options, options, training_options
from cli.completion import complete_model
from cli.settings import build, is_given
from transformer_core.experiments.config import ArchitectureConfig, PretrainingConfig, TrainingRun
from transformer_core.experiments.text_config import DataConfig, RawTextConfig
from transformer_core.training.adaptation_config import AdaptationConfig
from transformer_core.training.config import TrainingConfig, TranslationMetric
from transformer_core.training.distributed import this_job

if TYPE_CHECKING:
    from transformer_core.experiments.progress import Progress
    from transformer_core.training.progress import Listener
    from transformer_core.training.trainer import TrainingResult

__all__ = ["run_training", "train", "train_in_this_job"]

FINE_TUNING = "Fine-tuning"


def _complete_part(incomplete: str) -> list[str]:
    return [name for name in ("encoder", "decoder", "embeddings") if name.startswith(incomplete)]


def train(
    context: typer.Context,
    output: options.ModelOutput,
    train_src: options.TrainSources = [],  # noqa: B006 - Typer copies it
    train_tgt: options.TrainTargets = [],  # noqa: B006 - Typer copies it
    valid_src: options.ValidSources = None,
    valid_tgt: options.ValidTargets = None,
    input_format: format_options.InputFormat = DataConfig.input_format,
    columns: format_options.Columns = None,
    valid_size: corpus_options.ValidSize = None,
    tokenizer: corpus_options.JointTokenizer = None,
    source_tokenizer: corpus_options.SourceTokenizer = None,
    target_tokenizer: corpus_options.TargetTokenizer = None,
    vocabulary_size: corpus_options.VocabularySize = None,
    tokenizer_kind: corpus_options.TokenizerKind = DataConfig.tokenizer_kind,
    max_length: corpus_options.MaxLength = DataConfig.max_length,
    bpe_dropout: Annotated[
        float,
        typer.Option(
            min=0,
            max=0.999,
            help="Share of BPE's merges left out, anew each time a pair is seen: helps where pairs are few.",
            rich_help_panel=training_options.OPTIMIZATION,
        ),
    ] = DataConfig.bpe_dropout,
    unigram_alpha: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Draw how words are cut by a unigram tokenizer's probabilities to this power, anew each time.",
            rich_help_panel=training_options.OPTIMIZATION,
        ),
    ] = None,
    errors: options.Errors = DataConfig.errors,
    prepared: corpus_options.Prepared = None,
    weights: corpus_options.Weights = None,
    tags: corpus_options.Tags = None,
    init_from: Annotated[
        Path | None,
        typer.Option(
            "--init-from",
            "--finetune-from",
            "--finetune-from-model",
            metavar="FOLDER",
            readable=False,
            autocompletion=complete_model,
            help="Model whose weights, architecture and tokenizer to start from; of a pretrained encoder those of the "
            "encoder. With another --tokenizer, the entries that it knows keep their vectors.",
            rich_help_panel=FINE_TUNING,
        ),
    ] = None,
    init_checkpoint: Annotated[
        str,
        typer.Option(
            "--init-checkpoint",
            metavar="best|last|STEP",
            help="Which of its weights: the best, those saved last, or those of a step that was kept.",
            rich_help_panel=FINE_TUNING,
        ),
    ] = TrainingRun.init_checkpoint,
    freeze: Annotated[
        list[str] | None,
        typer.Option(
            "--freeze",
            metavar="PART",
            autocompletion=_complete_part,
            help="Part of it that stays as it is: encoder, decoder, embeddings, or layers, from 1, as in encoder.1-4; "
            "repeat it for several.",
            rich_help_panel=FINE_TUNING,
        ),
    ] = None,
    lora_rank: Annotated[
        int | None,
        typer.Option(
            "--lora-rank",
            min=1,
            help="Train adapters of this rank beside its matrices, and nothing else of it; they are merged when it is "
            "saved.",
            rich_help_panel=FINE_TUNING,
        ),
    ] = None,
    lora_alpha: Annotated[
        float | None,
        typer.Option(
            "--lora-alpha",
            help="How much the adapters count: by alpha / rank. Default: the rank.",
            rich_help_panel=FINE_TUNING,
        ),
    ] = None,
    overwrite: training_options.Overwrite = False,
    arch: training_options.Arch = "auto",
    num_layers: training_options.Layers = None,
    num_encoder_layers: training_options.EncoderLayers = None,
    num_decoder_layers: training_options.DecoderLayers = None,
    d_model: training_options.DModel = None,
    encoder_d_model: training_options.EncoderDModel = None,
    decoder_d_model: training_options.DecoderDModel = None,
    num_heads: training_options.Heads = None,
    d_ff: training_options.DFf = None,
    encoder_d_ff: training_options.EncoderDFf = None,
    decoder_d_ff: training_options.DecoderDFf = None,
    encoder_mixer: training_options.EncoderMixer = ArchitectureConfig.encoder_mixer,
    decoder_mixer: training_options.DecoderMixer = ArchitectureConfig.decoder_mixer,
    bidirectional: training_options.Bidirectional = ArchitectureConfig.bidirectional,
    kernel_width: training_options.KernelWidth = ArchitectureConfig.kernel_width,
    num_key_value_heads: training_options.KeyValueHeads = None,
    share_layers: training_options.ShareLayers = ArchitectureConfig.share_layers,
    norm: training_options.Norm = ArchitectureConfig.norm,
    norm_kind: training_options.NormKind = ArchitectureConfig.norm_kind,
    feed_forward: training_options.FeedForward = ArchitectureConfig.feed_forward,
    activation: training_options.Activation = ArchitectureConfig.activation,
    positions: training_options.Positions = ArchitectureConfig.positions,
    sinusoid_form: training_options.SinusoidForm = ArchitectureConfig.sinusoid_form,
    max_positions: training_options.MaxPositions = ArchitectureConfig.max_positions,
    query_key_norm: training_options.QueryKeyNorm = ArchitectureConfig.query_key_norm,
    scale_attention: training_options.ScaleAttention = ArchitectureConfig.scale_attention,
    tie_embeddings: training_options.TieEmbeddings = None,
    dropout: Annotated[
        float | None,
        typer.Option(
            min=0,
            max=0.999,
            help="Of embeddings and sublayers. Default: 0.3 or 0.4 for a small corpus, 0.1 for a large one.",
            rich_help_panel=training_options.ARCHITECTURE,
        ),
    ] = None,
    attention_dropout: training_options.AttentionDropout = ArchitectureConfig.attention_dropout,
    activation_dropout: training_options.ActivationDropout = ArchitectureConfig.activation_dropout,
    batch_size: training_options.BatchSize = None,
    batch_type: training_options.BatchType = TrainingConfig.batch_type,
    accumulate: training_options.Accumulate = TrainingConfig.accumulate,
    batch_warmup_steps: training_options.BatchWarmupSteps = TrainingConfig.batch_warmup_steps,
    fsdp: training_options.Fsdp = TrainingConfig.fsdp,
    learning_rate: training_options.LearningRate = None,
    lr_schedule: training_options.LrSchedule = TrainingConfig.lr_schedule,
    warmup_steps: training_options.WarmupSteps = None,
    optimizer: training_options.Optimizer = TrainingConfig.optimizer,
    embedding_lr_factor: training_options.EmbeddingLrFactor = TrainingConfig.embedding_lr_factor,
    momentum: training_options.Momentum = TrainingConfig.momentum,
    beta1: training_options.Beta1 = TrainingConfig.beta1,
    beta2: training_options.Beta2 = TrainingConfig.beta2,
    weight_decay: training_options.WeightDecay = TrainingConfig.weight_decay,
    label_smoothing: training_options.LabelSmoothing = TrainingConfig.label_smoothing,
    r_drop: Annotated[
        float,
        typer.Option(
            help="Show each pair twice, with different dropout, and draw both predictions together by this weight; "
            "5 is usual, 0 shows it once.",
            rich_help_panel=training_options.OPTIMIZATION,
        ),
    ] = TrainingConfig.r_drop,
    final_dropout: training_options.FinalDropout = None,
    ema_decay: training_options.EmaDecay = TrainingConfig.ema_decay,
    clip_norm: training_options.ClipNorm = TrainingConfig.clip_norm,
    max_steps: training_options.MaxSteps = None,
    max_epochs: training_options.MaxEpochs = None,
    max_time: training_options.MaxTime = None,
    metric: Annotated[
        TranslationMetric,
        typer.Option(help="What selects the best weights.", rich_help_panel=training_options.STOPPING),
    ] = "loss",
    patience: training_options.Patience = TrainingConfig.patience,
    valid_every: training_options.ValidEvery = None,
    valid_beam_size: Annotated[
        int,
        typer.Option(min=1, help="Beam of validation, for metrics of text.", rich_help_panel=training_options.STOPPING),
    ] = TrainingConfig.valid_beam_size,
    save_every: training_options.SaveEvery = None,
    keep_last: training_options.KeepLast = TrainingConfig.keep_last,
    average_last: training_options.AverageLast = TrainingConfig.average_last,
    shortlist: Annotated[
        bool,
        typer.Option(
            "--shortlist/--no-shortlist",
            help="Learn in the end which tokens a translation may be made of, for translate --shortlist.",
            rich_help_panel=training_options.STOPPING,
        ),
    ] = DataConfig.shortlist,
    log_every: training_options.LogEvery = TrainingConfig.log_every,
    tensorboard: training_options.Tensorboard = False,
    seed: options.Seed = TrainingConfig.seed,
    precision: options.Precision = TrainingConfig.precision,
    device: options.Device = TrainingConfig.device,
    threads: options.Threads = None,
) -> None:
    """Train a model on pairs of lines; run the same command again to go on where it stopped.

    Two files are enough: a vocabulary is learned from them and some pairs are held back to validate with.

    transduce train -s train.en -t train.de --valid-src dev.en --valid-tgt dev.de -o model

    One file of both sides: transduce train -s pairs.tsv --input-format tsv -o model

    Several files: transduce train -s news.en -t news.de -s web.en -t web.de --weights 1 --weights 3 -o model
    """
    run_training(context, build(DataConfig, context.params), train_in_this_job)


def run_training(
    context: typer.Context,
    data: DataConfig | RawTextConfig,
    train_run: "Callable[[TrainingRun, Listener, Progress], TrainingResult | None]",
    pretraining: PretrainingConfig | None = None,
) -> None:
    """Train a model, show how it goes, and say how it ended.

    Args:
        context: with the options.
        data: what is learned.
        train_run: trains.
        pretraining: what is learned of raw text.
    """
    values = context.params
    run = TrainingRun(
        folder=values["output"],
        data=data,
        pretraining=pretraining,
        architecture=build(ArchitectureConfig, values),
        asked=frozenset(item.name for item in fields(ArchitectureConfig) if is_given(context, item.name)),
        training=build(TrainingConfig, values),
        init_from=values.get("init_from"),
        init_checkpoint=values.get("init_checkpoint", "best"),
        adaptation=build(AdaptationConfig, values),
        overwrite=values["overwrite"],
        command=console.command_line(),
    )
    from cli.training_display import training_display

    with training_display(run.folder, writes_tensorboard=values["tensorboard"]) as listener:
        result = train_run(run, listener, console.progress)
    if result is None:
        return
    if not result.is_finished:
        console.info(f"{result.reason}; the same command goes on from there")
        return
    folder = shlex.quote(str(run.folder))
    use = f"transduce translate -m {folder} < new.txt"
    if pretraining is not None:
        use = f"transduce train --init-from {folder} -s ... -t ... -o ..."
    console.info(f"{result.reason}; the model is in {run.folder}: {use}")
    if pretraining is not None and pretraining.objective == "masked":
        console.info(f"to see what it has learned: echo 'some <mask> text' | transduce fill -m {folder} --format tsv")


def train_in_this_job(run: TrainingRun, listener: "Listener", progress: "Progress") -> "TrainingResult | None":
    """Train in the processes of this job."""
    from transformer_core.experiments.train_from_text import train_from_text

    return train_from_text(run, listener, progress, this_job())
