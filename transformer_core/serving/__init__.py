"""A warm process behind a socket for many short calls; the client imports no torch."""
