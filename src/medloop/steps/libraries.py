"""The libraries whose version a stage's result depends on."""

from __future__ import annotations

import importlib.metadata

from medloop.recipe import Kind

ARRAYS = ("numpy", "pandas")
LEARNING = (*ARRAYS, "scikit-learn", "scipy")
DECODERS = (
    *("opencv-python-headless", "pillow", "simplejpeg"),
    *("pydicom", "pylibjpeg", "pylibjpeg-openjpeg", "pylibjpeg-rle", "python-gdcm"),
)
NETWORKS = ("torch", "torchvision", "timm", "opencv-python-headless")

# What each stage computes with: for both kinds, and what comes on top for the one or the other.
LIBRARIES: dict[str, dict[str, tuple[str, ...]]] = {
    "ingest": {"both": ARRAYS, "table": (), "images": DECODERS},
    "audit": {"both": LEARNING, "table": (), "images": (*DECODERS, "torch", "timm", "cleanlab")},
    "split": {"both": ARRAYS, "table": (), "images": ()},
    "prepare": {"both": ARRAYS, "table": (), "images": DECODERS},
    "tune": {"both": (*LEARNING, "optuna"), "table": (), "images": NETWORKS},
    "train": {"both": LEARNING, "table": (), "images": (*NETWORKS, "lightning-fabric")},
    "export": {
        "both": (*LEARNING, "onnx", "onnxruntime"),
        "table": ("skl2onnx",),
        "images": (*NETWORKS, "onnxscript"),
    },
    "evaluate": {
        "both": (*LEARNING, "onnxruntime", "matplotlib"),
        "table": (),
        "images": (*DECODERS, "torch", "timm"),
    },
}


def versions(stage: str, kind: Kind) -> dict[str, str]:
    """The libraries that a stage computes with, and which release of each is installed."""
    both = LIBRARIES[stage]
    return {name: _installed(name) for name in dict.fromkeys((*both["both"], *both[kind]))}


def _installed(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
