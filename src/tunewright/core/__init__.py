"""What every part agrees on: spaces, problems, events, trials, the algorithm protocol. NumPy only, no I/O."""
