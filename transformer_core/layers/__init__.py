"""Sequence layers: a sequence in, a sequence out, one contract."""
