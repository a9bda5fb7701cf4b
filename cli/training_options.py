"""What `train` and `pretrain` share: their options beside those of options.py and corpus_options.py, declared once."""

from typing import Annotated, Literal

import typer

from cli import options
from transformer_core.config import Activation as ActivationChoice
from transformer_core.config import DecoderMixer as DecoderMixerChoice
from transformer_core.config import EncoderMixer as EncoderMixerChoice
from transformer_core.config import FeedForwardKind
from transformer_core.config import NormKind as NormKindChoice
from transformer_core.config import Positions as PositionsChoice
from transformer_core.config import SinusoidForm as SinusoidFormChoice
from transformer_core.config import TieEmbeddings as TieEmbeddingsChoice
from transformer_core.experiments.config import NormPlace
from transformer_core.experiments.config import ShareLayers as ShareLayersChoice
from transformer_core.training.config import BatchType as BatchTypeChoice
from transformer_core.training.config import OptimizerName, Schedule

__all__ = [
    "ARCHITECTURE",
    "OPTIMIZATION",
    "STOPPING",
    "Accumulate",
    "Activation",
    "ActivationDropout",
    "Arch",
    "AttentionDropout",
    "AverageLast",
    "BatchSize",
    "BatchType",
    "BatchWarmupSteps",
    "Beta1",
    "Beta2",
    "Bidirectional",
    "ClipNorm",
    "DFf",
    "DModel",
    "DecoderDFf",
    "DecoderDModel",
    "DecoderLayers",
    "DecoderMixer",
    "EmaDecay",
    "EmbeddingLrFactor",
    "EncoderDFf",
    "EncoderDModel",
    "EncoderLayers",
    "EncoderMixer",
    "FeedForward",
    "FinalDropout",
    "Fsdp",
    "Heads",
    "KeepLast",
    "KernelWidth",
    "KeyValueHeads",
    "LabelSmoothing",
    "Layers",
    "LearningRate",
    "LogEvery",
    "LrSchedule",
    "MaxEpochs",
    "MaxPositions",
    "MaxSteps",
    "MaxTime",
    "Momentum",
    "Norm",
    "NormKind",
    "Optimizer",
    "Overwrite",
    "Patience",
    "Positions",
    "QueryKeyNorm",
    "SaveEvery",
    "ScaleAttention",
    "ShareLayers",
    "SinusoidForm",
    "Tensorboard",
    "TieEmbeddings",
    "ValidEvery",
    "WarmupSteps",
    "WeightDecay",
]

ARCHITECTURE = "Architecture"
OPTIMIZATION = "Optimisation"
STOPPING = "Stopping, validating, saving"

ARCHITECTURAL = {"rich_help_panel": ARCHITECTURE}
WHOLE = {"min": 1, **ARCHITECTURAL}


# --- Input and output

Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite",
        help="Remove the run that the folder holds; start anew.",
        rich_help_panel=options.INPUT_OUTPUT,
    ),
]

# --- Architecture

Arch = Annotated[
    Literal["auto", options.Preset, options.DeepPreset],
    typer.Option(
        "--arch",
        "-a",
        help="Preset; auto fits the data; in tiny-6-2 and the like 6 layers encode and 2 decode.",
        rich_help_panel=ARCHITECTURE,
    ),
]
Layers = Annotated[int | None, typer.Option("--layers", help="Layers of encoder and decoder.", **WHOLE)]
EncoderLayers = Annotated[
    int | None, typer.Option("--enc-layers", "--encoder-layers", help="Layers of the encoder.", **WHOLE)
]
DecoderLayers = Annotated[
    int | None, typer.Option("--dec-layers", "--decoder-layers", help="Layers of the decoder.", **WHOLE)
]
DModel = Annotated[
    int | None, typer.Option("--d-model", "--hidden-size", help="Width of the residual stream.", **WHOLE)
]
EncoderDModel = Annotated[int | None, typer.Option("--enc-d-model", help="Width of the encoder.", **WHOLE)]
DecoderDModel = Annotated[int | None, typer.Option("--dec-d-model", help="Width of the decoder.", **WHOLE)]
Heads = Annotated[int | None, typer.Option("--heads", "--num-heads", help="Attention heads.", **WHOLE)]
DFf = Annotated[int | None, typer.Option("--ffn-dim", "--d-ff", help="Inner width of the feed-forward.", **WHOLE)]
EncoderDFf = Annotated[int | None, typer.Option("--enc-ffn-dim", help="The encoder's.", **WHOLE)]
DecoderDFf = Annotated[int | None, typer.Option("--dec-ffn-dim", help="The decoder's.", **WHOLE)]
EncoderMixer = Annotated[
    EncoderMixerChoice,
    typer.Option("--encoder-mixer", "--enc-mixer", help="Sequence layer of the encoder.", **ARCHITECTURAL),
]
DecoderMixer = Annotated[
    DecoderMixerChoice,
    typer.Option("--decoder-mixer", "--dec-mixer", help="Sequence layer of the decoder.", **ARCHITECTURAL),
]
Bidirectional = Annotated[
    bool, typer.Option(help="gru or lstm in the encoder: half the width reads each way.", **ARCHITECTURAL)
]
KernelWidth = Annotated[int, typer.Option("--kernel-width", help="conv: positions that a filter sees.", **WHOLE)]
KeyValueHeads = Annotated[
    int | None,
    typer.Option("--kv-heads", "--heads-kv", help="Heads with keys and values of their own. Default: all.", **WHOLE),
]
ShareLayers = Annotated[
    ShareLayersChoice,
    typer.Option(
        "--share-layers", help="Where all layers are one, used again and again: smaller, as slow.", **ARCHITECTURAL
    ),
]
Norm = Annotated[
    NormPlace,
    typer.Option(help="A norm before each sublayer or after it.", rich_help_panel=ARCHITECTURE),
]
NormKind = Annotated[NormKindChoice, typer.Option(help="LayerNorm or RMSNorm.", **ARCHITECTURAL)]
FeedForward = Annotated[
    FeedForwardKind, typer.Option(help="plain: two matrices; glu, swiglu: a third as a gate.", **ARCHITECTURAL)
]
Activation = Annotated[ActivationChoice, typer.Option(help="Of the plain feed-forward.", rich_help_panel=ARCHITECTURE)]
Positions = Annotated[
    PositionsChoice | None,
    typer.Option(
        help="How a token knows its place. Default: rotary if both stacks attend, else sinusoidal.",
        rich_help_panel=ARCHITECTURE,
    ),
]
SinusoidForm = Annotated[SinusoidFormChoice, typer.Option(help="Whose sinusoids.", rich_help_panel=ARCHITECTURE)]
MaxPositions = Annotated[int, typer.Option(help="Rows of learned positions: their hard limit.", **WHOLE)]
QueryKeyNorm = Annotated[
    bool, typer.Option("--query-key-norm/--no-query-key-norm", help="Normalise queries and keys.", **ARCHITECTURAL)
]
ScaleAttention = Annotated[bool, typer.Option(help="Divide attention's scores by √d_head.", **ARCHITECTURAL)]
TieEmbeddings = Annotated[
    TieEmbeddingsChoice | None,
    typer.Option(
        help="Which of source, target and output embedding are one. Default: all if the vocabulary is joint.",
        rich_help_panel=ARCHITECTURE,
    ),
]
AttentionDropout = Annotated[
    float, typer.Option(min=0, max=0.999, help="Of attention weights.", rich_help_panel=ARCHITECTURE)
]
ActivationDropout = Annotated[
    float, typer.Option(min=0, max=0.999, help="Inside the feed-forward.", rich_help_panel=ARCHITECTURE)
]

# --- Optimisation

BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch-size",
        "--max-tokens",
        min=1,
        help="Size, in units of --batch-type. Default: 4096 tokens, 2048 of a small corpus; 64 sentences.",
        rich_help_panel=OPTIMIZATION,
    ),
]
BatchType = Annotated[
    BatchTypeChoice,
    typer.Option(help="tokens: padded, of the longer side; sentences: pairs.", rich_help_panel=OPTIMIZATION),
]
Accumulate = Annotated[
    int,
    typer.Option(
        "--accumulate",
        "--update-freq",
        "--accum-count",
        "--gradient-accumulation-steps",
        min=1,
        help="Batches of each process summed into one update.",
        rich_help_panel=OPTIMIZATION,
    ),
]
BatchWarmupSteps = Annotated[
    int,
    typer.Option(
        min=0,
        help="Updates in which the batches of an update rise from one to all of --accumulate.",
        rich_help_panel=OPTIMIZATION,
    ),
]
Fsdp = Annotated[
    bool,
    typer.Option(
        "--fsdp",
        help="Under torchrun: split weights and optimizer over the processes, for models that do not fit.",
        rich_help_panel=OPTIMIZATION,
    ),
]
LearningRate = Annotated[
    float | None,
    typer.Option(
        "--lr",
        "--learning-rate",
        "--learn-rate",
        help="Peak of the learning rate. Default: 0.5 / d_model.",
        rich_help_panel=OPTIMIZATION,
    ),
]
LrSchedule = Annotated[
    Schedule,
    typer.Option(
        "--lr-schedule",
        "--lr-scheduler",
        help="How it falls. auto: wsd (warm-up, stable, decay), or cosine where a whole model goes on.",
        rich_help_panel=OPTIMIZATION,
    ),
]
WarmupSteps = Annotated[
    int | None,
    typer.Option(
        "--warmup-steps",
        "--warmup-updates",
        "--lr-warmup",
        min=0,
        help="Updates in which it rises. Default: a tenth of the steps.",
        rich_help_panel=OPTIMIZATION,
    ),
]
Optimizer = Annotated[
    OptimizerName,
    typer.Option(
        help="Of the matrices in the layers; the rest is AdamW's. auto: muon, or adamw where a whole model goes on.",
        rich_help_panel=OPTIMIZATION,
    ),
]
EmbeddingLrFactor = Annotated[
    float | None,
    typer.Option(
        help="Rate of embeddings, norms and biases, in multiples of --lr. Default: 2 with muon, else 1.",
        rich_help_panel=OPTIMIZATION,
    ),
]
Momentum = Annotated[float, typer.Option(help="Muon's decay of the gradients' mean.", rich_help_panel=OPTIMIZATION)]
Beta1 = Annotated[float, typer.Option(help="AdamW's decay of the gradients' mean.", rich_help_panel=OPTIMIZATION)]
Beta2 = Annotated[float, typer.Option(help="AdamW's decay of their squares' mean.", rich_help_panel=OPTIMIZATION)]
WeightDecay = Annotated[float, typer.Option(help="Decay of matrices and embeddings.", rich_help_panel=OPTIMIZATION)]
LabelSmoothing = Annotated[
    float,
    typer.Option(help="Share of the target spread over the vocabulary.", rich_help_panel=OPTIMIZATION),
]
FinalDropout = Annotated[
    float | None,
    typer.Option(
        min=0,
        max=0.999,
        help="Dropout at the end, reached in a line from --dropout. Default: the same throughout.",
        rich_help_panel=OPTIMIZATION,
    ),
]
EmaDecay = Annotated[
    float,
    typer.Option(
        min=0,
        max=0.999999,
        help="Validate and keep the moving average of the weights; the share of it that stays with an update, such as "
        "0.999. 0: the weights themselves.",
        rich_help_panel=OPTIMIZATION,
    ),
]
ClipNorm = Annotated[
    float,
    typer.Option(
        "--clip-norm",
        "--max-grad-norm",
        help="Longest gradient; 0 does not clip.",
        rich_help_panel=OPTIMIZATION,
    ),
]

# --- Stopping, validating, saving

MaxSteps = Annotated[
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
]
MaxEpochs = Annotated[int | None, typer.Option(min=1, help="Passes over the data to make.", rich_help_panel=STOPPING)]
MaxTime = Annotated[
    float | None,
    typer.Option(help="Minutes after which to save and end; shapes nothing.", rich_help_panel=STOPPING),
]
Patience = Annotated[
    int,
    typer.Option(
        "--patience",
        "--early-stopping",
        min=0,
        help="Validations without a better value before training ends, with wsd from where the rate falls; 0: never.",
        rich_help_panel=STOPPING,
    ),
]
ValidEvery = Annotated[
    int | None,
    typer.Option(
        min=1,
        help="Updates between validations. Default: a fortieth of the steps, at most 2,000.",
        rich_help_panel=STOPPING,
    ),
]
SaveEvery = Annotated[
    int | None,
    typer.Option(min=1, help="Updates between checkpoints. Default: --valid-every.", rich_help_panel=STOPPING),
]
KeepLast = Annotated[int, typer.Option(min=1, help="Checkpoints kept.", rich_help_panel=STOPPING)]
AverageLast = Annotated[
    int,
    typer.Option(
        min=0,
        help="Snapshots, one per validation, whose mean is tried at the end; 0: none.",
        rich_help_panel=STOPPING,
    ),
]

# --- Runtime

LogEvery = Annotated[int, typer.Option(min=1, help="Updates between log lines.", rich_help_panel=options.RUNTIME)]
Tensorboard = Annotated[
    bool,
    typer.Option(
        "--tensorboard",
        help="Write TensorBoard events to FOLDER/tensorboard; needs the extra called tensorboard.",
        rich_help_panel=options.RUNTIME,
    ),
]
