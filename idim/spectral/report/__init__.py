"""The answer of ``spectrum``: summaries, tables, pictures, growth over a training."""
