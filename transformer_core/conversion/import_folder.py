"""A foreign folder as a model folder of ours, whatever tool it is from."""

from pathlib import Path

from transformer_core.conversion.foreign_vocabulary import Direction
from transformer_core.conversion.import_ctranslate2 import import_ctranslate2
from transformer_core.conversion.import_hugging_face import import_hugging_face
from transformer_core.conversion.imported_folder import write_imported
from transformer_core.errors import ModelError
from transformer_core.new_model import require_free

__all__ = ["import_folder"]


def import_folder(folder: Path, output: Path, direction: Direction, command: str = "") -> tuple[str, ...]:
    """Read a foreign folder and write a model folder, whole or not at all.

    Args:
        folder: of Hugging Face or CTranslate2.
        output: there is none yet, or an empty one.
        direction: the languages, of a model for several.
        command: how it was asked for, for metadata.json.

    Returns:
        The names of their decoding defaults that are not taken over, because we have none such.

    Raises:
        ConfigError: the output is taken; a language is not there, or is needed and not named.
        ModelError: the folder is missing or damaged, or of a kind that cannot be imported.
    """
    require_free(output)
    if not folder.is_dir():
        kind = "is a file, not a folder" if folder.exists() else "does not exist"
        raise ModelError(f"{folder}: {kind}; name the folder that holds config.json and the weights")
    if not (folder / "config.json").is_file():
        raise ModelError(f"{folder}: has no config.json; name a folder with a model of Hugging Face or CTranslate2")
    is_ctranslate2 = (folder / "model.bin").exists()
    imported = (import_ctranslate2 if is_ctranslate2 else import_hugging_face)(folder, direction)
    write_imported(imported, output, command)
    return imported.left_out
