"""Hostile input for the readers."""
