"""Comparing variants of a preset: what a plan file says, its runs in processes of their own, and their results as a table."""
