"""How much of the batches of one epoch is padding, run by the Python of the tool that makes them.

    PYTHON benchmarks/batch_padding.py eole eole.yaml
    PYTHON benchmarks/batch_padding.py joeynmt joeynmt.yaml
    python benchmarks/batch_padding.py transduce SOURCE TARGET TOKENIZER BATCH_SIZE

The last line is a JSON object: batches, tokens (without padding, end tokens included) and places (tokens and padding)
of both sides. training_speed.py shows it beside the speed.
"""

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

Batch = tuple[int, int, int, int]  # source tokens, source places, target tokens, target places


def eole_batches(config_path: str) -> Iterator[Batch]:
    """Those of eole's first bucket, which holds all pairs."""
    import yaml
    from eole.config.run import TrainConfig
    from eole.constants import CorpusTask
    from eole.inputters.dynamic_iterator import build_dynamic_dataset_iter
    from eole.train_single import TrainingInitializer

    config = TrainConfig(**yaml.safe_load(Path(config_path).read_text(encoding="utf-8")))
    context = TrainingInitializer(config).initialize()
    pad_id = context.vocabs["tgt"][config.pad_token]
    batches = build_dynamic_dataset_iter(context.config, context.transforms, context.vocabs, task=CorpusTask.TRAIN)
    for batch, bucket in batches:
        if bucket:
            return
        target = batch["tgt"][:, 1:]  # what is predicted; bos is not
        yield int(batch["srclen"].sum()), batch["src"].numel(), int((target != pad_id).sum()), target.numel()


def joeynmt_batches(config_path: str) -> Iterator[Batch]:
    """Those of JoeyNMT's first epoch."""
    from joeynmt.config import load_config, parse_global_args
    from joeynmt.data import load_data

    config = parse_global_args(load_config(config_path))
    vocabulary, _, data, _, _ = load_data(config.data, datasets=["train"])
    batches = data.make_iter(
        batch_size=config.train.batch_size,
        batch_type=config.train.batch_type,
        seed=config.seed,
        shuffle=config.train.shuffle,
        pad_index=vocabulary.pad_index,
        eos_index=vocabulary.eos_index,
    )
    for batch in batches:
        yield int(batch.src_mask.sum()), batch.src.numel(), batch.ntokens, batch.trg.numel()


def transduce_batches(source: str, target: str, tokenizer_path: str, batch_size: str) -> Iterator[Batch]:
    """Those of the first epoch of `transduce train`."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from tokenizer import Tokenizer
    from transformer_core.data.batching import Batching
    from transformer_core.data.encoding import RowEncoder
    from transformer_core.data.pairs import read_pairs
    from transformer_core.data.shards import Part, write_corpus
    from transformer_core.experiments.text_config import DataConfig

    tokenizer = Tokenizer.load(tokenizer_path)
    batching = Batching(batch_size=int(batch_size), batch_type="tokens", seed=1, pad_id=0, bos_id=1, eos_id=2)
    with tempfile.TemporaryDirectory() as folder:
        pairs = read_pairs([Path(source)], [Path(target)])
        encoder = RowEncoder((tokenizer, tokenizer), DataConfig.max_length)
        corpus = write_corpus(Path(folder), [Part(pairs)], encoder)
        for batch in batching.epoch(corpus, 0):
            num_source = batch.source.numel() if batch.source_mask is None else int(batch.source_mask.sum())
            yield num_source, batch.source.numel(), batch.num_target_tokens, batch.target_output.numel()


BATCHES = {"eole": eole_batches, "joeynmt": joeynmt_batches, "transduce": transduce_batches}


def main() -> None:
    """Print the JSON."""
    batches = list(BATCHES[sys.argv[1]](*sys.argv[2:]))
    names = ("source_tokens", "source_places", "target_tokens", "target_places")
    print(json.dumps({"batches": len(batches), **dict(zip(names, map(sum, zip(*batches, strict=True)), strict=True))}))


if __name__ == "__main__":
    main()
