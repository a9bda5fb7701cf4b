"""From batches to weights: loss, optimizer, schedule, checkpoints and the loop."""
