"""The one Transformer and everything done with it; its sub-packages are the public surface."""
