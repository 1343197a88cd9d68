"""Batch scoring: many files or rows in, one table of predictions out."""
