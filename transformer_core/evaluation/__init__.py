"""How good an output is: metrics with their signatures, and how sure that is. Imports no torch."""
