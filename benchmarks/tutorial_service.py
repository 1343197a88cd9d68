"""A service as tutorials write it: FastAPI, the network in torch loaded once, Pillow, softmax."""

from __future__ import annotations

import io
import sys

import numpy as np
import torch
from fastapi import FastAPI, UploadFile
from PIL import Image

from benchmarks.model_call import BACKBONE
from benchmarks.plain_torch import build
from benchmarks.tutorial import answer_with


def create_app(size: int) -> FastAPI:
    """Its one route."""
    app = FastAPI()
    model = build(BACKBONE, 2, size).eval()

    @app.post("/predict")
    async def predict(file: UploadFile) -> dict[str, list[float]]:
        picture = Image.open(io.BytesIO(await file.read())).convert("RGB").resize((size, size))
        inputs = torch.from_numpy(np.array(picture, np.float32) / 255).permute(2, 0, 1)[None]
        with torch.no_grad():
            return {"probabilities": model(inputs)[0].softmax(1)[0].tolist()}

    return app


if __name__ == "__main__":
    answer_with(create_app(int(sys.argv[1])))
