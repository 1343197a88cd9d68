"""MLflow: a model from code, that takes pictures in base64 as `mlflow models serve` does; run it to save the model."""

import base64
import os
import sys
from pathlib import Path
from typing import Any

import mlflow
from picture import open_graph, pixels_of, probabilities_of


class Pictures(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
    """A column of pictures."""

    def load_context(self, context: Any) -> None:  # noqa: ARG002 - as MLflow calls it
        self.session = open_graph(os.environ["RIVAL_GRAPH"])

    def predict(self, context: Any, model_input: Any, params: Any = None) -> list[list[float]]:  # noqa: ARG002
        pictures = model_input["image"]
        return [probabilities_of(self.session, pixels_of(base64.b64decode(one))) for one in pictures]


if __name__ == "__main__":
    mlflow.pyfunc.save_model(sys.argv[1], python_model=__file__, code_paths=[str(Path(__file__).parent / "picture.py")])
else:
    mlflow.models.set_model(Pictures())
