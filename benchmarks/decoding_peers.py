"""Who else decodes the same weights: CTranslate2 and `transformers`, each as its users run it."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import ctranslate2
import torch

from transformer_core.conversion.export_ctranslate2 import export_ctranslate2
from transformer_core.conversion.export_hugging_face import export_hugging_face
from transformer_core.decoding.config import SearchConfig
from transformer_core.model import Transformer
from transformer_core.model_directory import LoadedModel

__all__ = ["BATCH_SIZES", "Tokens", "by_ctranslate2", "by_transformers"]

Tokens = list[list[int]]
COMPUTE_TYPES = {"fp32": "float32", "int8": "int8"}
BATCH_SIZES = ((3000, "tokens"), (32, "examples"))  # of CTranslate2: the best ones for large and for small models
SENTENCES = 64  # of a batch of `transformers`


def by_ctranslate2(
    loaded: LoadedModel, folder: Path, precision: str, beam_size: int, max_length: int, batching: tuple[int, str] | None
) -> Callable[[Sequence[str]], Tokens]:
    """Make ready what translates by CTranslate2.

    Args:
        loaded: the model.
        folder: where its export goes; one that is there is used.
        precision: fp32 or int8.
        beam_size: 1 is greedy search.
        max_length: tokens of a translation.
        batching: size and unit of its batches; None: one line at a time.
    """
    if not folder.exists():
        export_ctranslate2(loaded, folder)
    translator = ctranslate2.Translator(
        str(folder), compute_type=COMPUTE_TYPES[precision], inter_threads=1, intra_threads=1
    )
    names = json.loads(next(folder.glob("*_vocabulary.json")).read_text(encoding="utf-8"))
    ids = {name: index for index, name in enumerate(names)}
    options = {"beam_size": beam_size, "max_decoding_length": max_length, "max_input_length": 0}
    options["min_decoding_length"] = 0  # one if not said: then no empty hypothesis takes a place among the finished
    if batching is not None:
        options |= {"max_batch_size": batching[0], "batch_type": batching[1]}

    def translate(lines: Sequence[str]) -> Tokens:
        sources = [[names[index] for index in line] for line in loaded.source_tokenizer.encode_batch(lines)]
        batches = [sources] if batching is not None else [[source] for source in sources]
        return [
            [ids[token] for token in found.hypotheses[0]]
            for batch in batches
            for found in translator.translate_batch(batch, **options)
        ]

    return translate


def by_transformers(
    loaded: LoadedModel, folder: Path, beam_size: int, max_length: int
) -> Callable[[Sequence[str]], Tokens]:
    """Make ready what translates by `generate` of `transformers`, in batches of lines of similar length."""
    from transformers import AutoModelForSeq2SeqLM

    config = loaded.model.config
    has_table = config.positions == "learned"  # of a widened model: its class computes sinusoids, which these are not
    if not folder.exists():
        exported = loaded
        if has_table:
            like = Transformer(replace(config, positions="sinusoidal")).eval()
            like.load_state_dict(loaded.model.state_dict(), strict=False)
            exported = replace(loaded, model=like)
        export_hugging_face(exported, folder, SearchConfig())
    model = AutoModelForSeq2SeqLM.from_pretrained(folder).eval()
    if has_table:
        assert loaded.model.source_embedding.position_embedding is not None
        table = loaded.model.source_embedding.position_embedding.weight.detach()
        for stack in (model.model.encoder, model.model.decoder):
            stack.embed_positions.weight.data.copy_(table)
    tokenizer = loaded.source_tokenizer

    def translate(lines: Sequence[str]) -> Tokens:
        sources = [[*ids, tokenizer.eos_id] for ids in tokenizer.encode_batch(lines)]
        order = sorted(range(len(sources)), key=lambda index: -len(sources[index]))
        found: dict[int, list[int]] = {}
        for start in range(0, len(order), SENTENCES):
            batch = order[start : start + SENTENCES]
            longest = len(sources[batch[0]])
            padded = [sources[index] + [tokenizer.pad_id] * (longest - len(sources[index])) for index in batch]
            source = torch.tensor(padded)
            with torch.inference_mode():
                target = model.generate(
                    source,
                    attention_mask=(source != tokenizer.pad_id).long(),
                    num_beams=beam_size,
                    do_sample=False,
                    max_new_tokens=max_length + 1,
                    length_penalty=1.0,
                    early_stopping=True,
                )
            found |= dict(zip(batch, (_written(row, tokenizer.eos_id) for row in target[:, 1:].tolist()), strict=True))
        return [found[index] for index in range(len(order))]

    return translate


def _written(token_ids: list[int], eos_id: int) -> list[int]:
    """Give the tokens before the end token."""
    return token_ids[: token_ids.index(eos_id)] if eos_id in token_ids else token_ids
