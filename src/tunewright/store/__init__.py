"""Where the log of a study lives."""
