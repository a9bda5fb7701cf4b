"""Which token translates which, counted in pairs of lines: what a shortlist is made of. No model is in it."""
