"""What samplers believe: probabilistic models of losses, NumPy in and out."""
