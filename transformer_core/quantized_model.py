"""A model with its weights in fewer bits: a smaller folder, read as any other."""

from pathlib import Path

from transformer_core.model_directory import shapes_of
from transformer_core.model_files import checkpoint_path, read_config, read_json, read_tokenizers
from transformer_core.new_model import NewModel, require_free, write_model
from transformer_core.provenance import describe_weights
from transformer_core.weight_file import WeightForm, read_weights

__all__ = ["quantize_model"]

CARRIED_OVER = ("data", "corpus", "pretraining", "training")  # of metadata.json: they are true of these weights, too


def quantize_model(
    model: Path, folder: Path, form: WeightForm, checkpoint: str = "best", command: str = ""
) -> tuple[int, int]:
    """Write the model again, whole or not at all, with its matrices in another form.

    Args:
        model: its folder.
        folder: of the new one; there is none yet, or an empty one.
        form: of the matrices.
        checkpoint: which weights, as for load_model.
        command: how it was asked for, for metadata.json.

    Returns:
        Bytes of the file of the weights, before and after.

    Raises:
        ConfigError: the folder is taken.
        ModelError: a file of the model is missing or damaged.
    """
    require_free(folder)
    config = read_config(model)
    source_tokenizer, target_tokenizer = read_tokenizers(model, config)
    path = checkpoint_path(model, checkpoint)
    metadata = read_json(model / "metadata.json")
    quantized = NewModel(
        config=config,
        source_tokenizer=source_tokenizer,
        target_tokenizer=target_tokenizer,
        weights=read_weights(path, shapes_of(config), is_mapped=True),
        generation=read_json(model / "generation.json"),
        origin={
            "quantized": {"to": form, **describe_weights(path)},
            **{name: metadata[name] for name in CARRIED_OVER if name in metadata},
        },
        shortlist_of=model,
    )
    write_model(quantized, folder, command, form)
    return path.stat().st_size, (folder / "model.safetensors").stat().st_size
