"""From a source to hypotheses: search, the stepping model, the translator, scoring."""
