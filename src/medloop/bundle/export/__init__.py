"""The export stage: a trained model becomes one ONNX graph with everything that decides."""
