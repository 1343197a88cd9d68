"""A service for a table as tutorials write it: FastAPI, pydantic, an estimator that joblib read."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import joblib
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel


class Features(BaseModel):
    """The values of one case."""

    features: list[float]


def create_app(path: Path) -> FastAPI:
    """Its one route."""
    app = FastAPI()
    model = joblib.load(path)

    @app.post("/predict")
    def predict(body: Features) -> dict[str, object]:
        shares = model.predict_proba([body.features])[0]
        return {"label": str(model.classes_[shares.argmax()]), "probabilities": shares.tolist()}

    return app


if __name__ == "__main__":
    with socket.create_server(("127.0.0.1", 0)) as listener:
        print(listener.getsockname()[1], flush=True)
        config = uvicorn.Config(create_app(Path(sys.argv[1])), access_log=False, log_level="error")
        uvicorn.Server(config).run(sockets=[listener])
