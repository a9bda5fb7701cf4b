"""Small random models of Hugging Face, made by `transformers` itself, in folders like those that are published."""

import io
import json
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
import torch

from tests.transformer_core.decoding.random_model import random_lines

transformers = pytest.importorskip("transformers")
transformers.logging.set_verbosity_error()
transformers.logging.disable_progress_bar()

SIZES = {
    "d_model": 32,
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_attention_heads": 4,
    "decoder_attention_heads": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 40,
    "max_position_embeddings": 64,
}


def sentencepiece_model(seed: int, size: int = 60, kind: str = "unigram") -> bytes:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(random_lines(300, seed=seed)),
        model_writer=model,
        vocab_size=size,
        model_type=kind,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return model.getvalue()


def pieces_of(model: bytes) -> list[str]:
    processor = sentencepiece.SentencePieceProcessor(model_proto=model)
    pieces = [processor.id_to_piece(index) for index in range(processor.get_piece_size())]
    return [piece for piece in pieces if piece not in ("<unk>", "<s>", "</s>")]


def sharpen(model: Any, end_pull: float = 6) -> Any:  # noqa: ANN401 - transformers has no types for mypy
    """Draw weights so that logits are far apart and an end comes after a few tokens."""
    torch.manual_seed(5)
    decoder = model.model.decoder
    last = decoder.layer_norm if hasattr(decoder, "layer_norm") else decoder.layers[-1].final_layer_norm
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "embed_positions" in name and not name.startswith("model.encoder.embed_positions.l"):
                continue
            weight.normal_(std=0.2)
            if "norm" in name and name.endswith("weight"):
                weight.uniform_(0.5, 1.5)
        last.weight.normal_(std=2.0)
        end = model.get_output_embeddings().weight[model.config.eos_token_id]
        last.bias.copy_(end_pull * end / end.norm())
        if hasattr(model, "final_logits_bias"):
            model.final_logits_bias.uniform_(-0.5, 0.5)
    return model.eval()


def save_marian(folder: Path, *, pad_is_zero: bool = False, **values: object) -> Any:  # noqa: ANN401
    """Write an OPUS-MT: two SentencePiece models and one table of entries in an order of its own."""
    folder.mkdir(parents=True)
    source, target = sentencepiece_model(1), sentencepiece_model(2, 50)
    (folder / "source.spm").write_bytes(source)
    (folder / "target.spm").write_bytes(target)
    # one piece of the source is missing: it is unknown to the model
    entries = ["</s>", "<unk>", *sorted({*pieces_of(source)[:-1], *pieces_of(target)}, reverse=True), ">>de<<", "<pad>"]
    (folder / "vocab.json").write_text(json.dumps({entry: index for index, entry in enumerate(entries)}))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "MarianTokenizer"}))
    pad = len(entries) - 1
    config = transformers.MarianConfig(
        **{
            **SIZES,
            "vocab_size": len(entries),
            "pad_token_id": pad,
            "eos_token_id": 0,
            "bos_token_id": 0,
            "decoder_start_token_id": pad,
            "forced_eos_token_id": None,
            "scale_embedding": True,
            "activation_function": "swish",
            **values,
        }
    )
    torch.manual_seed(2)
    model = sharpen(transformers.MarianMTModel(config))
    if pad_is_zero:
        with torch.no_grad():
            model.model.shared.weight[pad] = 0
    model.generation_config.bad_words_ids = [[pad]]
    model.save_pretrained(folder)
    return model


def save_m2m100(folder: Path) -> Any:  # noqa: ANN401
    """Write an M2M100: one SentencePiece model, its table, and a hundred languages after it."""
    folder.mkdir(parents=True)
    model_file = sentencepiece_model(1)
    (folder / "sentencepiece.bpe.model").write_bytes(model_file)
    entries = ["<s>", "<pad>", "</s>", "<unk>", *pieces_of(model_file)]
    (folder / "vocab.json").write_text(json.dumps({entry: index for index, entry in enumerate(entries)}))
    tokenizer = transformers.M2M100Tokenizer(str(folder / "vocab.json"), str(folder / "sentencepiece.bpe.model"))
    tokenizer.save_pretrained(folder)
    config = transformers.M2M100Config(
        **SIZES,
        vocab_size=len(entries) + 100 + 8,  # eight rows have no name, as in the published ones
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=2,
    )
    torch.manual_seed(2)
    model = sharpen(transformers.M2M100ForConditionalGeneration(config), 4.1)
    model.save_pretrained(folder)
    return model


def save_nllb(folder: Path) -> Any:  # noqa: ANN401
    """Write an NLLB: an M2M100 whose entries, the languages among them, are in a tokenizer.json."""
    folder.mkdir(parents=True)
    (folder / "sentencepiece.bpe.model").write_bytes(sentencepiece_model(1, kind="bpe"))
    languages = ["eng_Latn", "deu_Latn", "zho_Hans"]
    tokenizer = transformers.NllbTokenizer.from_pretrained(folder, src_lang="eng_Latn", tgt_lang="deu_Latn")
    tokenizer.add_tokens(languages, special_tokens=True)
    tokenizer.save_pretrained(folder)
    size = len(tokenizer) + 3  # three rows have no name
    config = transformers.M2M100Config(
        **SIZES, vocab_size=size, pad_token_id=1, bos_token_id=0, eos_token_id=2, decoder_start_token_id=2
    )
    torch.manual_seed(2)
    model = sharpen(transformers.M2M100ForConditionalGeneration(config), 4.1)
    model.save_pretrained(folder)
    return model


def save_bart(folder: Path) -> Any:  # noqa: ANN401
    """Write a BART: byte-level BPE, learned positions, a norm of the embeddings."""
    import tokenizers

    folder.mkdir(parents=True)
    library = tokenizers.ByteLevelBPETokenizer()
    special = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    library.train_from_iterator(random_lines(300, seed=1), vocab_size=330, special_tokens=special, show_progress=False)
    library.save_model(str(folder))
    config = transformers.BartConfig(
        **SIZES,
        vocab_size=library.get_vocab_size(),
        pad_token_id=1,
        bos_token_id=0,
        eos_token_id=2,
        decoder_start_token_id=2,
        forced_bos_token_id=0,
        forced_eos_token_id=None,
    )
    torch.manual_seed(2)
    model = sharpen(transformers.BartForConditionalGeneration(config))
    model.save_pretrained(folder)
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BartTokenizer"}))
    return model
