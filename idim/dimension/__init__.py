"""The intrinsic dimension from runs: the bar, the learning-rate rule, the search, the interval, the report."""
