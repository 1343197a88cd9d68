"""Synthetic patients whose true labels are known."""

from __future__ import annotations

from medloop.phantoms.generate import generate, generate_patient, label_of
from medloop.phantoms.spec import KINDS, Drawing, Nodule, PhantomSpec, Slice, Window
from medloop.phantoms.write import write

__all__ = [
    "KINDS",
    "Drawing",
    "Nodule",
    "PhantomSpec",
    "Slice",
    "Window",
    "generate",
    "generate_patient",
    "label_of",
    "write",
]
