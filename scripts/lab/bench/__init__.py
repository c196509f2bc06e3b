"""Rows of `scripts/benchmark.py`: each measures something against a baseline of the same run."""
