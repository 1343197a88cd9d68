"""Libraries whose release can change a result."""

from __future__ import annotations

from collections.abc import Iterable

ARRAYS = ("numpy", "pandas")
LEARNING = (*ARRAYS, "scikit-learn", "scipy")
DECODERS = (
    *("opencv-python-headless", "pillow", "simplejpeg"),
    *("pydicom", "pylibjpeg", "pylibjpeg-openjpeg", "pylibjpeg-rle", "python-gdcm"),
)
NETWORKS = ("torch", "torchvision", "timm", "opencv-python-headless")


def installed_versions(libraries: Iterable[str]) -> dict[str, str]:
    """Return the installed release of each library."""
    return {name: _installed_version(name) for name in dict.fromkeys(libraries)}


def _installed_version(library: str) -> str:
    import importlib.metadata

    try:
        return importlib.metadata.version(library)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
