"""One folder with the model and all that is needed to use it; data only."""
