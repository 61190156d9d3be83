"""The version of lpqld, in one place."""

__version__ = "0.1.0"
