"""What each rival does with a picture: the quickest decoder, the graph, softmax."""

from __future__ import annotations

import os
from typing import Any

import cv2
import numpy as np
import onnxruntime

SIZE = int(os.environ.get("RIVAL_SIZE", "224"))


def open_graph(path: str) -> Any:
    """A session on one thread, since every worker has its own."""
    cv2.setNumThreads(1)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def pixels_of(data: bytes) -> Any:
    """The picture as the graph takes it."""
    found = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)
    small = cv2.resize(np.asarray(found), (SIZE, SIZE), interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(small.transpose(2, 0, 1)[None], dtype=np.float32)


def probabilities_of(session: Any, pixels: Any) -> list[float]:
    """What the graph says."""
    logits = session.run(["logits"], {"image": pixels})[0][0]
    powers = np.exp(logits - logits.max())
    return [float(share) for share in powers / powers.sum()]
