"""Text and token ids: lines, shards on disk, batches. Imports no model."""
