"""BentoML: a worker process for each core."""

import os
from pathlib import Path
from typing import Annotated

import bentoml
from bentoml.validators import ContentType
from picture import open_graph, pixels_of, probabilities_of


@bentoml.service(workers="cpu_count")
class Pictures:
    """One picture a request."""

    def __init__(self) -> None:
        self.session = open_graph(os.environ["RIVAL_GRAPH"])

    @bentoml.api
    def predict(self, file: Annotated[Path, ContentType("image/*")]) -> list[float]:
        return probabilities_of(self.session, pixels_of(file.read_bytes()))
