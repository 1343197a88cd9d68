"""Turn image bytes or a table row into model input, with the same code for training and serving."""
