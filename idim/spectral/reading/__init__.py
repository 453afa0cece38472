"""Stored models: files, folders, caches and packages as sources of named tensors, and the formats of their numbers."""
