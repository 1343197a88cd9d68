"""Bytes or a row -> model input: the same code for training and serving."""
