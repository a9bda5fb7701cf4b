"""What needs training and decoding together: training from text files, the demo."""
