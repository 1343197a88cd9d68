"""ONNX Runtime sessions, with the same options wherever a model is measured or served."""

from __future__ import annotations

from functools import cache
from typing import Any

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as onnx_state

from medloop.cores import cores

ONNX_ERRORS: tuple[type[Exception], ...] = tuple(
    kind for kind in vars(onnx_state).values() if isinstance(kind, type) and issubclass(kind, Exception)
)


def open_session(model: bytes, *, threads: int) -> Any:
    """Return a session on the CPU."""
    options = onnxruntime.SessionOptions()
    # 0 would mean all cores of the machine, even where a container may use fewer.
    options.intra_op_num_threads = threads or cores()
    options.log_severity_level = 3
    if not has_exact_int8():
        # Without VNNI, sums of 8-bit products would saturate, and decisions could differ between processors.
        options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@cache
def has_exact_int8() -> bool:
    """Whether the processor has VNNI, and so sums 8-bit products exactly."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="ignore") as file:  # noqa: PTH123 - no file on a disk
            flags = next((line.split() for line in file if line.startswith("flags")), [])
    except FileNotFoundError:
        return False
    return "avx512_vnni" in flags or "avx_vnni" in flags
