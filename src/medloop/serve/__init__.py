"""The HTTP service: FastAPI over the Predictor."""
