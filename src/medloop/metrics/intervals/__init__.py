"""Confidence intervals and paired comparisons, for cases that cluster in patients."""
