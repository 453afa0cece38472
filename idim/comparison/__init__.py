"""Every kind of subspace on the same work: random ones and those found from data, at equal d."""
