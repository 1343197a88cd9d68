"""From labelled medical data to a classifier that can be trusted."""

__version__ = "0.1.0"
