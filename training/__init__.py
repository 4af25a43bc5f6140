"""Training of what ships with the package as weights."""
