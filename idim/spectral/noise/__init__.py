"""What is no signal: rounding of stored numbers, and what matrices of noise look like."""
