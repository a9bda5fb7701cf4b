"""How CTranslate2 stores weights: what can be asked for. Imports no torch, so that the command line can offer it."""

from typing import Literal

__all__ = ["Quantization"]

Quantization = Literal["none", "int8", "int8_float16", "int8_bfloat16", "int16", "float16", "bfloat16"]
