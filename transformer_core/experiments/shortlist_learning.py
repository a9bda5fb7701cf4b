"""The shortlist of a model folder: learned from the corpus of its run, or later from the files of that text."""

import tempfile
from pathlib import Path

from transformer_core.data.encoding import RowEncoder
from transformer_core.data.shards import Corpus, Part, write_corpus
from transformer_core.experiments.progress import Progress, no_progress
from transformer_core.experiments.text_config import DataConfig
from transformer_core.experiments.texts import read_rows, training_texts
from transformer_core.lexicon.config import ShortlistConfig
from transformer_core.lexicon.learning import learn_shortlist
from transformer_core.model_files import (
    SHORTLIST_FILE,
    hash_file,
    read_config,
    read_json,
    read_tokenizers,
    require_decoder,
    write_json,
)

__all__ = ["learn_from_text", "write_shortlist"]


def write_shortlist(folder: Path, corpus: Corpus, config: ShortlistConfig, progress: Progress = no_progress) -> None:
    """Learn a shortlist from a corpus and put it into a model folder, in place of the one that is there.

    Args:
        folder: of the model.
        corpus: pairs in its vocabularies.
        config: how many candidates.
        progress: shows how far it is.

    Raises:
        DataError: the corpus is damaged, or of another vocabulary.
        ModelError: the folder holds no model that translates.
    """
    architecture = read_config(folder)
    require_decoder(architecture, str(folder))
    tokenizers = read_tokenizers(folder, architecture)
    with progress("learning the shortlist", unit="pairs") as advance:
        shortlist = learn_shortlist(corpus, tokenizers, config, advance)
    shortlist.save(folder / SHORTLIST_FILE, *tokenizers)
    metadata = read_json(folder / "metadata.json")
    if isinstance(files := metadata.get("files"), dict):  # the hashes of a model that is complete
        files[SHORTLIST_FILE] = hash_file(folder / SHORTLIST_FILE)
        write_json(folder / "metadata.json", metadata)


def learn_from_text(
    folder: Path, data: DataConfig, config: ShortlistConfig, progress: Progress = no_progress, processes: int = 1
) -> int:
    """Tokenise pairs with the tokenizers of a model, and learn its shortlist from them.

    Args:
        folder: of the model.
        data: the pairs.
        config: how many candidates.
        progress: shows how far it is.
        processes: how many tokenise at once.

    Returns:
        The pairs that were there to learn from.

    Raises:
        DataError: the text cannot be read, or nothing is left of it.
        ModelError: the folder holds no model that translates.
        TokenizerConfigError: its vocabulary lacks a tag.
    """
    architecture = read_config(folder)
    require_decoder(architecture, str(folder))
    encoder = RowEncoder(read_tokenizers(folder, architecture), data.max_length)
    parts = [Part(read_rows(text, data), text.tag) for text in training_texts(data)]
    for tag in data.tags:
        encoder.tokenizers[0].tagged(tag)
    with tempfile.TemporaryDirectory() as temporary:
        with progress("tokenising the pairs", unit="pairs") as advance:
            corpus = write_corpus(Path(temporary, "corpus"), parts, encoder, processes=processes, progress=advance)
        write_shortlist(folder, corpus, config, progress)
        return corpus.statistics.num_pairs
