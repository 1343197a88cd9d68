"""What a bundle scored, made from the bundle and never from the training model."""
