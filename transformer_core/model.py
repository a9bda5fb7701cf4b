"""The Transformer: layers, encoder, decoder, and both together (Vaswani et al. 2017, section 3).

A layer is: sequence mixer → cross-attention (decoder) → feed-forward, each in the same residual-and-norm frame. The
mixer is the only thing that differs between kinds of layer.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from transformer_core.config import ModelConfig, StackConfig
from transformer_core.layers.ancestry import Ancestry
from transformer_core.layers.attention import CrossAttention, CrossMemory, SelfAttention
from transformer_core.layers.convolution import ConvolutionMixer
from transformer_core.layers.dropout import Dropout
from transformer_core.layers.embedding import SequenceEmbedding, new_embedding
from transformer_core.layers.feed_forward import FeedForward
from transformer_core.layers.mixer import MixerState, SequenceMixer
from transformer_core.layers.norm import new_norm
from transformer_core.layers.recurrent import RecurrentMixer, SimplerRecurrentUnit

__all__ = ["Decoder", "DecoderLayer", "DecoderState", "Encoder", "EncoderLayer", "Residual", "Transformer"]


class Residual(nn.Module):
    """The frame around every sublayer: residual sum, dropout and a norm.

    Norm first (Xiong et al. 2020): stream + dropout(sublayer(norm(stream))). Norm last (Vaswani et al. 2017):
    norm(stream + dropout(sublayer(stream))).
    """

    def __init__(self, d_model: int, config: ModelConfig) -> None:
        super().__init__()
        self.norm = new_norm(d_model, config.norm_kind)
        self.dropout = Dropout(config.dropout)
        self.norm_first = config.norm_first

    def forward(self, stream: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """Add what `sublayer` makes of the stream, (batch, length, d_model), to it."""
        if self.norm_first:
            return stream + self.dropout(sublayer(self.norm(stream)))  # type: ignore[no-any-return]
        return self.norm(stream + self.dropout(sublayer(stream)))  # type: ignore[no-any-return]


class EncoderLayer(nn.Module):
    """Mix the positions, then work on each alone."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        stack = config.encoder
        self.mixer = new_mixer(stack, config, is_encoder=True)
        self.mixer_residual = Residual(stack.d_model, config)
        self.feed_forward = FeedForward(stack, config)
        self.feed_forward_residual = Residual(stack.d_model, config)

    def forward(self, stream: Tensor, mask: Tensor | None) -> Tensor:
        """Transform (batch, source_length, d_model) under a mask (batch, source_length)."""
        stream = self.mixer_residual(stream, lambda inputs: self.mixer(inputs, mask, causal=False))
        return self.feed_forward_residual(stream, self.feed_forward)  # type: ignore[no-any-return]


class DecoderLayer(nn.Module):
    """Mix the target so far, look at the source, then work on each position alone."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        stack = config.decoder
        self.mixer = new_mixer(stack, config, is_encoder=False)
        self.mixer_residual = Residual(stack.d_model, config)
        self.cross_attention = CrossAttention(stack, config.encoder.d_model, config)
        self.cross_attention_residual = Residual(stack.d_model, config)
        self.feed_forward = FeedForward(stack, config)
        self.feed_forward_residual = Residual(stack.d_model, config)

    def forward(self, stream: Tensor, memory: Tensor, memory_mask: Tensor | None) -> Tensor:
        """Transform (batch, target_length, d_model) beside memory (batch, source_length, encoder d_model)."""
        stream = self.mixer_residual(stream, lambda inputs: self.mixer(inputs, None, causal=True))
        stream = self.cross_attention_residual(stream, lambda inputs: self.cross_attention(inputs, memory, memory_mask))
        return self.feed_forward_residual(stream, self.feed_forward)  # type: ignore[no-any-return]

    def step(self, stream: Tensor, state: MixerState, memory: CrossMemory, memory_mask: Tensor | None) -> Tensor:
        """Transform one new position of each row, (rows, d_model)."""
        stream = self.mixer_residual(stream, lambda inputs: self.mixer.step(inputs, state))
        stream = self.cross_attention_residual(
            stream, lambda inputs: self.cross_attention.step(inputs, memory, memory_mask)
        )
        return self.feed_forward_residual(stream, self.feed_forward)  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """A stack of encoder layers; with norm first, one more norm at its end."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = _new_layers(config.encoder, lambda: EncoderLayer(config))
        self.final_norm = _final_norm(config.encoder, config)

    def forward(self, stream: Tensor, mask: Tensor | None) -> Tensor:
        """(batch, source_length, d_model) and mask (batch, source_length) -> memory of the same shape."""
        for layer in self.layers:
            stream = layer(stream, mask)
        return self.final_norm(stream)  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """A stack of decoder layers; with norm first, one more norm at its end. Of no layers, nothing at all."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = _new_layers(config.decoder, lambda: DecoderLayer(config))
        self.final_norm = _final_norm(config.decoder, config)

    def forward(self, stream: Tensor, memory: Tensor, memory_mask: Tensor | None) -> Tensor:
        """(batch, target_length, d_model) beside memory -> the same shape; position t sees nothing after t."""
        for layer in self.layers:
            stream = layer(stream, memory, memory_mask)
        return self.final_norm(stream)  # type: ignore[no-any-return]

    def step(self, stream: Tensor, state: "DecoderState") -> Tensor:
        """(rows, d_model) -> the same shape, one position further in `state`."""
        for layer, mixer_state, memory in zip(self.layers, state.mixer_states, state.memories, strict=True):
            assert isinstance(layer, DecoderLayer)
            stream = layer.step(stream, mixer_state, memory, state.memory_mask)
        return self.final_norm(stream)  # type: ignore[no-any-return]


@dataclass
class DecoderState:
    """What decoding remembers of every hypothesis, and of the source, one row per sentence.

    Attributes:
        ancestry: of the hypotheses; how many there are, and where they stand.
        mixer_states: of every layer, what its mixer remembers.
        memories: of every layer, keys and values of the source.
        memory_mask: (batch, source_length), added to the scores: 0 at a token, -inf at padding; None where nothing is
            padded.
    """

    ancestry: Ancestry
    mixer_states: list[MixerState]
    memories: list[CrossMemory]
    memory_mask: Tensor | None

    def select(self, row_indices: Tensor) -> None:
        """Reorder, repeat or drop hypotheses; the sentences stay as they are.

        Args:
            row_indices: (batch * new_beam,) int64; row i must come from the sentence that it goes to.
        """
        for state in self.mixer_states:
            state.select(row_indices)
        self.ancestry.select(row_indices)

    def keep_sentences(self, sentence_indices: Tensor) -> None:
        """Drop all sentences but those at `sentence_indices`, (new_batch,) int64, with all their hypotheses."""
        row_indices = self.ancestry.rows_of(sentence_indices)
        for state in self.mixer_states:
            state.keep_sentences(sentence_indices, row_indices)
        for memory in self.memories:
            memory.select(sentence_indices)
        if self.memory_mask is not None:
            self.memory_mask = self.memory_mask.index_select(0, sentence_indices)
        self.ancestry.keep_sentences(sentence_indices)

    def merge(self, other: "DecoderState") -> None:
        """Put the sentences of another state after these; they may be ahead or behind, but have as wide a beam."""
        for state, other_state in zip(self.mixer_states, other.mixer_states, strict=True):
            state.merge(other_state)
        self.memory_mask = _merged_mask(self, other)
        for memory, other_memory in zip(self.memories, other.memories, strict=True):
            memory.merge(other_memory)
        self.ancestry.merge(other.ancestry)


def _merged_mask(*states: DecoderState) -> Tensor | None:
    """The mask of the sources of several states, each padded to the longest; None where nothing is padded."""
    length = max(state.memories[0].key.size(2) for state in states)
    masks = []
    for state in states:
        key = state.memories[0].key
        mask = key.new_zeros(key.size(0), key.size(2)) if state.memory_mask is None else state.memory_mask
        masks.append(functional.pad(mask, (0, length - key.size(2)), value=-torch.inf))
    merged = torch.cat(masks)
    return None if bool((merged == 0).all()) else merged


class Transformer(nn.Module):
    """Encoder and decoder with their embeddings and the output projection.

    Without decoder layers (`config.is_encoder_only`) it is the encoder of a masked language model (BERT, Devlin et al.
    2019), and `project(encode(source, source_mask))` are the logits of the tokens of the source itself.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.source_embedding = SequenceEmbedding(config.source_vocabulary_size, config.encoder.d_model, config)
        self.target_embedding = self.source_embedding
        if not config.is_encoder_only:
            self.target_embedding = SequenceEmbedding(config.target_vocabulary_size, config.decoder.d_model, config)
        self.encoder = Encoder(config)
        self.decoder = Decoder(config)
        self.output_projection = nn.Linear(
            config.decoder.d_model, config.target_vocabulary_size, bias=config.output_bias
        )
        if self.output_projection.bias is not None:  # of imported models; there it is a constant, too
            nn.init.zeros_(self.output_projection.bias.requires_grad_(False))
        self.output_projection.weight = new_embedding(config.target_vocabulary_size, config.decoder.d_model).weight
        if config.tie_embeddings == "all":
            self.target_embedding.token_embedding.weight = self.source_embedding.token_embedding.weight
        if config.tie_embeddings in ("all", "decoder"):
            self.output_projection.weight = self.target_embedding.token_embedding.weight

    def forward(self, source: Tensor, source_mask: Tensor | None, target_input: Tensor) -> Tensor:
        """Compute the decoder's output for whole pairs; `project` turns it into logits.

        Args:
            source: (batch, source_length) int64, padded with pad_id.
            source_mask: (batch, source_length) bool, True = a real token; None where all are.
            target_input: (batch, target_length) int64, begins with bos_id, padded at the end.

        Returns:
            (batch, target_length, d_model).
        """
        return self.decode(target_input, self.encode(source, source_mask), source_mask)

    def encode(self, source: Tensor, source_mask: Tensor | None) -> Tensor:
        """(batch, source_length) int64 -> memory (batch, source_length, d_model)."""
        return self.encoder(self.source_embedding(source), source_mask)  # type: ignore[no-any-return]

    def decode(self, target_input: Tensor, memory: Tensor, source_mask: Tensor | None) -> Tensor:
        """(batch, target_length) int64 beside memory -> (batch, target_length, d_model)."""
        return self.decoder(self.target_embedding(target_input), memory, source_mask)  # type: ignore[no-any-return]

    def project(self, hidden: Tensor) -> Tensor:
        """(…, d_model) -> logits (…, vocabulary)."""
        return self.output_projection(hidden)  # type: ignore[no-any-return]

    def start(self, memory: Tensor, source_mask: Tensor | None) -> DecoderState:
        """Prepare to decode step by step, one hypothesis per sentence.

        Args:
            memory: (batch, source_length, d_model), from `encode`.
            source_mask: (batch, source_length) bool.
        """
        layers = [layer for layer in self.decoder.layers if isinstance(layer, DecoderLayer)]
        ancestry = Ancestry(memory.size(0), memory)
        memory_mask = None
        if source_mask is not None:
            memory_mask = memory.new_zeros(source_mask.shape).masked_fill_(~source_mask, -torch.inf)
        return DecoderState(
            ancestry=ancestry,
            mixer_states=[layer.mixer.start(ancestry, memory) for layer in layers],
            memories=[layer.cross_attention.prepare(memory) for layer in layers],
            memory_mask=memory_mask,
        )

    def step(self, token_ids: Tensor, state: DecoderState) -> Tensor:
        """Feed one token of each hypothesis, (rows,) int64, and advance the state -> (rows, d_model)."""
        state.ancestry.begin_position()
        place, furthest = state.ancestry.place, state.ancestry.furthest
        return self.decoder.step(self.target_embedding.step(token_ids, place, furthest), state)

    def set_dropout(self, share: float) -> None:
        """Drop another share from embeddings and sublayers than the config says; training may change it on its way."""
        for module in self.modules():
            if isinstance(module, (Residual, SequenceEmbedding)):
                module.dropout.share = share

    @property
    def device(self) -> torch.device:
        """Where the model computes."""
        return self.source_embedding.token_embedding.weight.device

    def num_parameters(self) -> int:
        """Count the weights, each shared one once."""
        return sum(parameter.numel() for parameter in self.parameters())


def new_mixer(stack: StackConfig, config: ModelConfig, *, is_encoder: bool) -> SequenceMixer:
    """Make the sequence layer that a stack asks for."""
    match stack.mixer:
        case "attention":
            return SelfAttention(stack, config)
        case "gru" | "lstm":
            return RecurrentMixer(stack.mixer, stack.d_model, bidirectional=is_encoder and stack.bidirectional)
        case "ssru":
            return SimplerRecurrentUnit(stack.d_model)
        case "conv":
            return ConvolutionMixer(stack.d_model, stack.kernel_width)


def _new_layers(stack: StackConfig, new_layer: Callable[[], nn.Module]) -> nn.ModuleList:
    """Make the layers of a stack; where they share their weights, one that stands in every place of the list.

    Its weights have one name, that of the first place, and each place has a state of its own in decoding.
    """
    if stack.share_layers and stack.num_layers:
        return nn.ModuleList([new_layer()] * stack.num_layers)
    return nn.ModuleList(new_layer() for _ in range(stack.num_layers))


def _final_norm(stack: StackConfig, config: ModelConfig) -> nn.Module:
    has_norm = config.norm_first and stack.num_layers > 0
    return new_norm(stack.d_model, config.norm_kind) if has_norm else nn.Identity()
