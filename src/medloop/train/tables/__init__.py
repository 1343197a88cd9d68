"""Fitting table models."""
