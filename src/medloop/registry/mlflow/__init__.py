"""The mirror of the model store in MLflow."""
