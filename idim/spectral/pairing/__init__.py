"""Two models side by side: names matched, shapes agreed, adapters and subspaces as changes, one pair at a time."""
