"""Models in the formats of others, out and in: Hugging Face and CTranslate2."""
