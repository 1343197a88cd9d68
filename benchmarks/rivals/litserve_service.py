"""LitServe: a worker process for each core."""

import os
import sys
from typing import Any

import litserve
from fastapi import Request
from picture import open_graph, pixels_of, probabilities_of


class Pictures(litserve.LitAPI):  # type: ignore[misc]
    """One picture a request."""

    def setup(self, device: str) -> None:  # noqa: ARG002 - as LitServe calls it
        self.session = open_graph(os.environ["RIVAL_GRAPH"])

    def decode_request(self, request: Request) -> Any:
        return pixels_of(request["file"].file.read())

    def predict(self, x: Any) -> list[float]:
        return probabilities_of(self.session, x)

    def encode_response(self, output: list[float]) -> dict[str, list[float]]:
        return {"probabilities": output}


if __name__ == "__main__":
    server = litserve.LitServer(Pictures(), accelerator="cpu", workers_per_device=len(os.sched_getaffinity(0)))
    server.run(host="127.0.0.1", port=int(sys.argv[1]), log_level="error", generate_client_file=False)
