"""Walsh–Hadamard transforms and counter-based random bits: a reference that runs on any device, and CPU kernels."""
