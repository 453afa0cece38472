"""Experiments: one question a YAML file, carried out by :mod:`experiments.run`."""
