"""Theory that can be run: what a finished run proves about rows that nobody has seen."""
