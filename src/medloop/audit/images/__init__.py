"""The audit of a set of images."""
