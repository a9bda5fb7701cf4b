"""`transduce pretrain`: raw text in, a pretrained encoder or a denoising model out; the same command again goes on."""

from typing import Annotated

import typer

from cli import console, corpus_options, options, training_options
from cli.settings import build
from transformer_core.experiments.config import (
    PRETRAINING_DEFAULTS,
    ArchitectureConfig,
    ObjectiveName,
    PretrainingConfig,
    TrainingRun,
)
from transformer_core.experiments.text_config import RawTextConfig
from transformer_core.training.config import BatchType, PretrainingMetric, TrainingConfig
from transformer_core.training.distributed import this_job

__all__ = ["pretrain"]


def pretrain(
    context: typer.Context,
    output: options.ModelOutput,
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
    valid_size: corpus_options.ValidSize = None,
    tokenizer: corpus_options.JointTokenizer = None,
    vocabulary_size: corpus_options.VocabularySize = None,
    tokenizer_kind: corpus_options.TokenizerKind = RawTextConfig.tokenizer_kind,
    max_length: corpus_options.MaxLength = RawTextConfig.max_length,
    errors: options.Errors = RawTextConfig.errors,
    prepared: corpus_options.Prepared = None,
    weights: corpus_options.Weights = None,
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
            help="Of embeddings and sublayers. Default: 0.1.",
            rich_help_panel=training_options.ARCHITECTURE,
        ),
    ] = None,
    attention_dropout: training_options.AttentionDropout = ArchitectureConfig.attention_dropout,
    activation_dropout: training_options.ActivationDropout = ArchitectureConfig.activation_dropout,
    batch_size: training_options.BatchSize = None,
    batch_type: Annotated[
        BatchType,
        typer.Option(help="tokens: padded; sentences: lines.", rich_help_panel=training_options.OPTIMIZATION),
    ] = TrainingConfig.batch_type,
    accumulate: training_options.Accumulate = TrainingConfig.accumulate,
    batch_warmup_steps: training_options.BatchWarmupSteps = TrainingConfig.batch_warmup_steps,
    fsdp: training_options.Fsdp = TrainingConfig.fsdp,
    learning_rate: training_options.LearningRate = None,
    lr_schedule: training_options.LrSchedule = TrainingConfig.lr_schedule,
    warmup_steps: training_options.WarmupSteps = None,
    optimizer: training_options.Optimizer = PRETRAINING_DEFAULTS.optimizer,
    embedding_lr_factor: training_options.EmbeddingLrFactor = TrainingConfig.embedding_lr_factor,
    momentum: training_options.Momentum = TrainingConfig.momentum,
    beta1: training_options.Beta1 = TrainingConfig.beta1,
    beta2: training_options.Beta2 = TrainingConfig.beta2,
    weight_decay: training_options.WeightDecay = TrainingConfig.weight_decay,
    label_smoothing: training_options.LabelSmoothing = PRETRAINING_DEFAULTS.label_smoothing,
    final_dropout: training_options.FinalDropout = None,
    ema_decay: training_options.EmaDecay = TrainingConfig.ema_decay,
    clip_norm: training_options.ClipNorm = TrainingConfig.clip_norm,
    max_steps: training_options.MaxSteps = None,
    max_epochs: training_options.MaxEpochs = None,
    max_time: training_options.MaxTime = None,
    metric: Annotated[
        PretrainingMetric,
        typer.Option(
            help="What selects the best weights; accuracy: the share of predicted tokens that are right.",
            rich_help_panel=training_options.STOPPING,
        ),
    ] = "loss",
    patience: training_options.Patience = TrainingConfig.patience,
    valid_every: training_options.ValidEvery = None,
    save_every: training_options.SaveEvery = None,
    keep_last: training_options.KeepLast = TrainingConfig.keep_last,
    average_last: training_options.AverageLast = TrainingConfig.average_last,
    log_every: training_options.LogEvery = TrainingConfig.log_every,
    tensorboard: training_options.Tensorboard = False,
    seed: options.Seed = TrainingConfig.seed,
    precision: options.Precision = TrainingConfig.precision,
    device: options.Device = TrainingConfig.device,
    threads: options.Threads = None,
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
    data = build(RawTextConfig, values)
    pretraining = build(PretrainingConfig, values)
    architecture = build(ArchitectureConfig, values)
    training = build(TrainingConfig, values)
    run = TrainingRun(
        folder=output,
        data=data,
        pretraining=pretraining,
        architecture=architecture,
        training=training,
        overwrite=overwrite,
        command=console.command_line(),
    )
    from cli.training_display import training_display
    from transformer_core.experiments.train_from_text import train_from_text

    with training_display(output, writes_tensorboard=tensorboard) as listener:
        result = train_from_text(run, listener, console.progress, this_job())
    if result is None:
        return
    if not result.is_finished:
        console.info(f"{result.reason}; the same command goes on from there")
        return
    console.info(
        f"{result.reason}; the model is in {output}: transduce train --init-from {output} -s ... -t ... -o ..."
    )
    if pretraining.objective == "masked":
        console.info(f"to see what it has learned: echo 'some <mask> text' | transduce fill -m {output} --format tsv")
