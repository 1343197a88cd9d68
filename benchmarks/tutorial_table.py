"""A service for a table as tutorials write it: FastAPI, pydantic, an estimator that joblib read."""

from __future__ import annotations

import sys
from pathlib import Path

import joblib
from fastapi import FastAPI
from pydantic import BaseModel

from benchmarks.tutorial import answer_with


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
    answer_with(create_app(Path(sys.argv[1])))
