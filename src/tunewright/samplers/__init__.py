"""Which configuration to try next: one paper, one file."""
