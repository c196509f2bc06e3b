"""The package's version, apart from all else so that every room may read it."""

__version__ = "0.1.0"
