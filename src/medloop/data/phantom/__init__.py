"""Synthetic patients whose truth is known, sound or with faults planted in them."""

from __future__ import annotations

from medloop.data.phantom.faults import FAULTS
from medloop.data.phantom.folder import Planted
from medloop.data.phantom.generate import generate, generate_patient, label_of
from medloop.data.phantom.spec import KINDS, Drawing, Fault, Nodule, PhantomSpec, Slice, Window
from medloop.data.phantom.write import write

__all__ = [
    "FAULTS",
    "KINDS",
    "Drawing",
    "Fault",
    "Nodule",
    "PhantomSpec",
    "Planted",
    "Slice",
    "Window",
    "generate",
    "generate_patient",
    "label_of",
    "write",
]
