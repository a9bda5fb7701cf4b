"""Options of training that change nothing in a run, because of what goes without them."""

from transformer_core.config import ModelConfig
from transformer_core.experiments.config import ArchitectureConfig, TrainingRun
from transformer_core.training.config import TrainingConfig

__all__ = ["idle_options"]


def idle_options(run: TrainingRun, config: ModelConfig, num_processes: int, *, is_new: bool) -> list[str]:
    """Name the options that were set to no effect, each in a sentence.

    Args:
        run: complete.
        config: of its model.
        num_processes: that train together.
        is_new: the run begins; one that goes on keeps the batches of an update that it began with.
    """
    architecture, training = run.architecture, run.training
    usual, usual_training = ArchitectureConfig(), TrainingConfig()
    mixers = {config.encoder.mixer, config.decoder.mixer}
    is_recurrent = config.encoder.mixer in ("gru", "lstm")
    options = (  # its name, whether it was set, whether anything goes by it, and what it is for
        (
            "max-positions",
            architecture.max_positions != usual.max_positions,
            config.positions == "learned",
            "is of learned positions; how long a line may be is --max-length",
        ),
        (
            "sinusoid-form",
            architecture.sinusoid_form != usual.sinusoid_form,
            config.positions == "sinusoidal",
            f"is of sinusoidal positions, and these are {config.positions}",
        ),
        (
            "activation",
            architecture.activation != usual.activation,
            config.feed_forward == "plain",
            f"is of the plain feed-forward, and {config.feed_forward} has one of its own",
        ),
        (
            "kernel-width",
            architecture.kernel_width != usual.kernel_width,
            "conv" in mixers,
            "is of convolutions, and no layer is one",
        ),
        (
            "no-bidirectional",
            architecture.bidirectional != usual.bidirectional,
            is_recurrent,
            "is of recurrent layers in the encoder, and it has none",
        ),
        (
            "momentum",
            training.momentum != usual_training.momentum,
            training.optimizer == "muon",
            "is of Muon, and the optimizer is AdamW",
        ),
        (
            "batch-warmup-steps",
            training.batch_warmup_steps != usual_training.batch_warmup_steps,
            not is_new or training.accumulate * num_processes > 1,
            "is of updates of several batches (--accumulate), and each is of one",
        ),
        ("fsdp", training.fsdp, num_processes > 1, "is of several processes (torchrun), and this is one"),
        (
            "valid-beam-size",
            training.valid_beam_size != usual_training.valid_beam_size,
            training.metric != "loss",
            "is for a --metric that needs translations",
        ),
    )
    idle = [(name, purpose) for name, is_set, is_used, purpose in options if is_set and not is_used]
    return [f"--{name} changes nothing: it {purpose}" for name, purpose in idle]
