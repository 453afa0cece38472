"""One matrix: the pass over its two versions, its singular values and its leading directions."""
