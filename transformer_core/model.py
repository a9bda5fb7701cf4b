"""The Transformer: layers, encoder, decoder, and both together (Vaswani et al. 2017, section 3).

A layer is: sequence mixer → cross-attention (decoder) → feed-forward, each in the same residual-and-norm frame. The
mixer is the only thing that differs between kinds of layer.
"""

from collections.abc import Callable

from torch import Tensor, nn

from transformer_core.config import ModelConfig, StackConfig
from transformer_core.layers.attention import CrossAttention, CrossMemory, SelfAttention
from transformer_core.layers.embedding import SequenceEmbedding, new_embedding
from transformer_core.layers.feed_forward import FeedForward
from transformer_core.layers.mixer import MixerState, SequenceMixer

__all__ = ["Decoder", "DecoderLayer", "DecoderState", "Encoder", "EncoderLayer", "Residual", "Transformer"]

LAYER_NORM_EPSILON = 1e-5


class Residual(nn.Module):
    """The frame around every sublayer: residual sum, dropout and LayerNorm.

    Norm first (Xiong et al. 2020): stream + dropout(sublayer(norm(stream))). Norm last (Vaswani et al. 2017):
    norm(stream + dropout(sublayer(stream))).
    """

    def __init__(self, d_model: int, config: ModelConfig) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(d_model, eps=LAYER_NORM_EPSILON)
        self.dropout = nn.Dropout(config.dropout)
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
        self.mixer = build_mixer(stack, config)
        self.mixer_residual = Residual(stack.d_model, config)
        self.feed_forward = FeedForward(stack.d_model, stack.d_ff, config.activation, config.activation_dropout)
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
        self.mixer = build_mixer(stack, config)
        self.mixer_residual = Residual(stack.d_model, config)
        self.cross_attention = CrossAttention(
            stack.d_model, config.encoder.d_model, stack.num_heads, config.attention_dropout
        )
        self.cross_attention_residual = Residual(stack.d_model, config)
        self.feed_forward = FeedForward(stack.d_model, stack.d_ff, config.activation, config.activation_dropout)
        self.feed_forward_residual = Residual(stack.d_model, config)

    def forward(self, stream: Tensor, memory: Tensor, memory_mask: Tensor | None) -> Tensor:
        """Transform (batch, target_length, d_model) beside memory (batch, source_length, encoder d_model)."""
        stream = self.mixer_residual(stream, lambda inputs: self.mixer(inputs, None, causal=True))
        stream = self.cross_attention_residual(stream, lambda inputs: self.cross_attention(inputs, memory, memory_mask))
        return self.feed_forward_residual(stream, self.feed_forward)  # type: ignore[no-any-return]

    def step(self, stream: Tensor, state: MixerState, memory: CrossMemory, memory_mask: Tensor | None) -> Tensor:
        """Transform one new position of each row, (rows, 1, d_model)."""
        stream = self.mixer_residual(stream, lambda inputs: self.mixer.step(inputs, state))
        stream = self.cross_attention_residual(
            stream, lambda inputs: self.cross_attention.step(inputs, memory, memory_mask)
        )
        return self.feed_forward_residual(stream, self.feed_forward)  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """A stack of encoder layers; with norm first, one more norm at its end."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder.num_layers))
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
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder.num_layers))
        self.final_norm = _final_norm(config.decoder, config)

    def forward(self, stream: Tensor, memory: Tensor, memory_mask: Tensor | None) -> Tensor:
        """(batch, target_length, d_model) beside memory -> the same shape; position t sees nothing after t."""
        for layer in self.layers:
            stream = layer(stream, memory, memory_mask)
        return self.final_norm(stream)  # type: ignore[no-any-return]

    def step(self, stream: Tensor, state: "DecoderState") -> Tensor:
        """(rows, 1, d_model) -> the same shape, one position further in `state`."""
        for layer, mixer_state, memory in zip(self.layers, state.mixer_states, state.memories, strict=True):
            assert isinstance(layer, DecoderLayer)
            stream = layer.step(stream, mixer_state, memory, state.memory_mask)
        return self.final_norm(stream)  # type: ignore[no-any-return]


class DecoderState:
    """What decoding remembers: per layer the mixer's state, one row per hypothesis, and the source, one per sentence.

    The rows of a sentence, its beams, stand together: row = sentence * beam + place in the beam.

    Attributes:
        length: positions decoded so far.
        num_rows: hypotheses, batch * beam.
        num_sentences: sentences, batch.
    """

    def __init__(
        self, mixer_states: list[MixerState], memories: list[CrossMemory], memory_mask: Tensor | None, num_rows: int
    ) -> None:
        self.mixer_states = mixer_states
        self.memories = memories
        self.memory_mask = memory_mask  # (batch, 1, 1, source_length)
        self.num_rows = num_rows
        self.num_sentences = num_rows
        self.length = 0

    def select(self, row_indices: Tensor) -> None:
        """Reorder, repeat or drop hypotheses; the sentences stay as they are.

        Args:
            row_indices: (batch * new_beam,) int64; row i must come from the sentence that it goes to.
        """
        for state in self.mixer_states:
            state.select(row_indices)
        self.num_rows = row_indices.size(0)

    def keep_sentences(self, sentence_indices: Tensor) -> None:
        """Drop all sentences but those at `sentence_indices`, (new_batch,) int64, with all their hypotheses."""
        beam = self.num_rows // self.num_sentences
        # (new_batch,) -> (new_batch, beam) -> (new_batch * beam,)
        offsets = sentence_indices.new_tensor(range(beam))
        self.select((sentence_indices[:, None] * beam + offsets).flatten())
        for memory in self.memories:
            memory.select(sentence_indices)
        if self.memory_mask is not None:
            self.memory_mask = self.memory_mask.index_select(0, sentence_indices)
        self.num_sentences = sentence_indices.size(0)


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
        self.output_projection = nn.Linear(config.decoder.d_model, config.target_vocabulary_size, bias=False)
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
        return DecoderState(
            mixer_states=[layer.mixer.start(memory.size(0), memory) for layer in layers],
            memories=[layer.cross_attention.prepare(memory) for layer in layers],
            memory_mask=None if source_mask is None else source_mask[:, None, None, :],
            num_rows=memory.size(0),
        )

    def step(self, token_ids: Tensor, state: DecoderState) -> Tensor:
        """Feed one token of each hypothesis, (rows,) int64, and advance the state -> (rows, d_model)."""
        stream = self.target_embedding(token_ids[:, None], first_position=state.length)
        hidden = self.decoder.step(stream, state)
        state.length += 1
        return hidden.squeeze(1)

    def num_parameters(self) -> int:
        """Count the weights, each shared one once."""
        return sum(parameter.numel() for parameter in self.parameters())


def build_mixer(stack: StackConfig, config: ModelConfig) -> SequenceMixer:
    """Make the sequence layer that a stack asks for."""
    match stack.mixer:
        case "attention":
            return SelfAttention(stack.d_model, stack.num_heads, config.attention_dropout)


def _final_norm(stack: StackConfig, config: ModelConfig) -> nn.Module:
    has_norm = config.norm_first and stack.num_layers > 0
    return nn.LayerNorm(stack.d_model, eps=LAYER_NORM_EPSILON) if has_norm else nn.Identity()
