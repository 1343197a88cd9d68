"""How a graph is run: the same options wherever it is measured or served."""

from __future__ import annotations

from typing import Any

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as onnx_state

ONNX_ERRORS: tuple[type[Exception], ...] = tuple(
    kind for kind in vars(onnx_state).values() if isinstance(kind, type) and issubclass(kind, Exception)
)


def open_session(model: bytes, *, threads: int) -> Any:
    """A session on the processor, ready to run."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    # Processors without VNNI would saturate sums of 8-bit products, and so decide otherwise than those with it.
    options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
