"""Imports timm even where torchvision's compiled operators do not load with the installed torch."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

# A declaration holds only as long as its library lives.
_DECLARED: list[Any] = []
_OPERATORS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def import_timm() -> ModuleType:
    """Return the library timm, whichever build of torchvision is installed."""
    declare_missing_operators()
    return importlib.import_module("timm")


def declare_missing_operators() -> None:
    """Declare the operators that torchvision expects on import, where its compiled part does not provide them."""
    # A torchvision built for CUDA raises "operator torchvision::nms does not exist" with a CPU build of torch.
    # The operators are for object detection, which no classifier needs, so a declaration without a body is enough.
    if _DECLARED or _compiled_part_loads():
        return
    from torch.library import Library

    library = Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    for schema in _OPERATORS:
        library.define(schema)  # type: ignore[no-untyped-call]
    _DECLARED.append(library)


def _compiled_part_loads() -> bool:
    import torch

    # Found without importing torchvision: an import that fails half-way leaves registrations behind.
    spec = importlib.util.find_spec("torchvision")
    places = (spec and spec.submodule_search_locations) or ()
    parts = [part for place in places for part in sorted(Path(place).glob("_C.*"))]
    try:
        for part in parts:
            torch.ops.load_library(str(part))  # type: ignore[no-untyped-call]
    except OSError:
        return False
    return bool(parts)
