"""Hierarchical Reasoning Model submissions for the ARC Prize: pre-train, test-time train, vote, submit."""

__version__ = "0.1.0"
