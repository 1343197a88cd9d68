"""How a graph is run: the same options wherever it is measured or served."""

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
    """A session on the processor, ready to run."""
    options = onnxruntime.SessionOptions()
    # 0 would be the machine's cores, whatever a container may use of them.
    options.intra_op_num_threads = threads or cores()
    options.log_severity_level = 3
    if not has_exact_products():
        # Such processors would saturate sums of 8-bit products, and so decide otherwise than those with VNNI.
        options.add_session_config_entry("session.x64quantprecision", "1")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@cache
def has_exact_products() -> bool:
    """Whether the processor is known to sum 8-bit products exactly, so that the quicker way gives the same."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="ignore") as file:  # noqa: PTH123 - no file on a disk
            flags = next((line.split() for line in file if line.startswith("flags")), [])
    except FileNotFoundError:
        return False
    return "avx512_vnni" in flags or "avx_vnni" in flags
