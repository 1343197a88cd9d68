"""Versions: what was registered, what serves, and the mirror of both in MLflow."""
