"""Look at what was made: models, and later what they attend to."""
