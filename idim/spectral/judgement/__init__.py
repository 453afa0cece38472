"""The verdict on each tensor of a pair, kept as it is made."""
