"""Text to token ids and back, over Hugging Face `tokenizers`; loads no torch.

tokenizer = train_tokenizer(lines, TokenizerConfig(kind="bpe", vocabulary_size=8000))
tokenizer.save("joint.json")
ids = Tokenizer.load("joint.json").encode("A line.")
"""

from tokenizer.config import (
    KINDS,
    NORMALIZATIONS,
    ROUND_TRIP,
    Kind,
    Normalization,
    TokenizerConfig,
    TrainedKind,
    minimum_vocabulary_size,
)
from tokenizer.errors import TokenizerConfigError, TokenizerDataError, TokenizerError, TokenizerFileError
from tokenizer.round_trip import RoundTripExample, RoundTripReport, check_round_trip
from tokenizer.special_tokens import SPECIAL_TOKENS
from tokenizer.tokenizer import Tokenizer
from tokenizer.training import train_tokenizer

__all__ = [
    "KINDS",
    "NORMALIZATIONS",
    "ROUND_TRIP",
    "SPECIAL_TOKENS",
    "Kind",
    "Normalization",
    "RoundTripExample",
    "RoundTripReport",
    "Tokenizer",
    "TokenizerConfig",
    "TokenizerConfigError",
    "TokenizerDataError",
    "TokenizerError",
    "TokenizerFileError",
    "TrainedKind",
    "check_round_trip",
    "minimum_vocabulary_size",
    "train_tokenizer",
]
