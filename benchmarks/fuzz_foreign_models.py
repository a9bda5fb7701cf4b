"""Targets of fuzz.py: folders of other tools, as `transduce import` reads them.

They are made here of a random model, so that no other tool is needed: one like those of Hugging Face (a Marian), one
that `transduce export` wrote for CTranslate2, and one that somebody else converted, with SentencePiece models beside.
"""

import io
import json
import shutil
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import sentencepiece
import torch

from transformer_core.config import ModelConfig, StackConfig
from transformer_core.conversion.export_ctranslate2 import export_ctranslate2
from transformer_core.conversion.export_hugging_face import export_hugging_face
from transformer_core.conversion.foreign_vocabulary import Direction
from transformer_core.conversion.import_folder import import_folder
from transformer_core.decoding.config import SearchConfig
from transformer_core.decoding.generation import model_search, model_source_limit
from transformer_core.decoding.translator import Translator
from transformer_core.errors import OutOfMemoryError
from transformer_core.model import Transformer
from transformer_core.model_directory import LoadedModel, load_model

__all__ = ["FOREIGN_FILES", "import_with", "prepare_foreign", "seed_of_foreign"]

WORDS = [f"{first}{second}" for first in "bdfgklmn" for second in "aeiou"]
LINES = ["ba be bi", "", "x \u2028 世界", "ba " * 20]
FOREIGN_FILES = {
    "marian": ("config.json", "generation_config.json", "vocab.json", "source.spm", "model.safetensors"),
    "pickled": ("pytorch_model.bin",),
    "sharded": ("model.safetensors.index.json",),
    "ctranslate2": ("model.bin", "config.json", "shared_vocabulary.json", "tokenizer.json"),
    "converted": ("model.bin", "config.json", "shared_vocabulary.json", "target.spm"),
}


def prepare_foreign(folder: Path) -> None:
    """Write the folders below `folder`, if they are not there."""
    if (folder / "converted").exists():
        return
    loaded = _random_model()
    marian, pickled, sharded = (folder / name for name in ("marian", "pickled", "sharded"))
    export_hugging_face(loaded, marian, SearchConfig())
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (marian / name).unlink()
    entries = {"<pad>": 0, "<s>": 1, "</s>": 2, "<unk>": 3, "<mask>": 4}
    pieces = [f"▁{word}" for word in WORDS] + list("abcdefghijklmnopqrstuvwxyz▁")
    for piece in pieces[: loaded.model.config.source_vocabulary_size - len(entries)]:
        entries[piece] = len(entries)
    (marian / "vocab.json").write_text(json.dumps(entries), encoding="utf-8")
    _write_cutters(marian)
    shutil.copytree(marian, pickled)
    (pickled / "model.safetensors").unlink()
    torch.save(loaded_weights(marian), pickled / "pytorch_model.bin")
    shutil.copytree(marian, sharded)
    (sharded / "model.safetensors").rename(sharded / "part-1.safetensors")
    index = {"metadata": {}, "weight_map": dict.fromkeys(loaded_weights(marian), "part-1.safetensors")}
    (sharded / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    export_ctranslate2(loaded, folder / "ctranslate2", "int8")
    converted = folder / "converting"
    export_ctranslate2(loaded, converted, "int8")
    (converted / "tokenizer.json").unlink()
    _write_cutters(converted)
    for name in ("config.json", "shared_vocabulary.json"):
        text = (converted / name).read_text(encoding="utf-8").replace('"<bos>"', '"<s>"').replace('"<eos>"', '"</s>"')
        (converted / name).write_text(text, encoding="utf-8")
    converted.rename(folder / "converted")


def import_with(data: bytes, folder: Path, *, kind: str, file: str) -> None:
    """Put a file into a foreign folder and import it; what comes of it must be a model that can be used."""
    prepare_foreign(folder)
    theirs, ours = folder / "theirs", folder / "ours"
    for path in (theirs, ours):
        shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(folder / kind, theirs)
    (theirs / file).write_bytes(data)
    import_folder(theirs, ours, Direction())
    loaded = load_model(ours)
    search = model_search(loaded.generation)
    assert model_source_limit(loaded.generation) > 0
    if search.beam_size > 100:  # as wide as its makers wanted it, but no matter here
        search = SearchConfig()
    try:
        translations = Translator(loaded.model, loaded.source_tokenizer, loaded.target_tokenizer, search).translate(
            LINES
        )
    except OutOfMemoryError:  # a small file may ask for a wide search
        return
    assert len(translations) == len(LINES)


def seed_of_foreign(kind: str, file: str) -> Callable[[Path], Sequence[bytes]]:
    """Give the file as its tool writes it."""
    return partial(_seed, kind=kind, file=file)


def _seed(folder: Path, *, kind: str, file: str) -> Sequence[bytes]:
    prepare_foreign(folder)
    return [(folder / kind / file).read_bytes()]


def loaded_weights(folder: Path) -> dict[str, torch.Tensor]:
    """Read the tensors of model.safetensors."""
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")


def _random_model() -> LoadedModel:
    """Make a small model with norms after the sublayers, as Marian has them."""
    from tokenizer import TokenizerConfig, train_tokenizer

    tokenizer = train_tokenizer([" ".join(WORDS)], TokenizerConfig(kind="word", vocabulary_size=len(WORDS) + 5))
    stack = StackConfig(num_layers=1, d_model=16, num_heads=2, d_ff=16)
    config = ModelConfig(
        source_vocabulary_size=tokenizer.vocabulary_size,
        target_vocabulary_size=tokenizer.vocabulary_size,
        pad_id=tokenizer.pad_id,
        bos_id=tokenizer.bos_id,
        eos_id=tokenizer.eos_id,
        encoder=stack,
        decoder=stack,
        norm_first=False,
        sinusoid_form="marian",
        tie_embeddings="all",
    )
    torch.manual_seed(1)
    return LoadedModel(
        model=Transformer(config).eval(),
        source_tokenizer=tokenizer,
        target_tokenizer=tokenizer,
        generation={},
        metadata={},
    )


def _write_cutters(folder: Path) -> None:
    """Learn a SentencePiece model, and write it for both sides."""
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter([" ".join(WORDS), " ".join(reversed(WORDS))] * 20),
        model_writer=model,
        vocab_size=60,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    for side in ("source", "target"):
        (folder / f"{side}.spm").write_bytes(model.getvalue())
