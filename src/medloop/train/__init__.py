"""Fitting: cross-validation, tuning, and the model that is exported."""
