"""A fitted pipeline on disk without pickle: skops stores plain data and reads back known types only."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from medloop.errors import UserError
from medloop.storage import atomic_file

TRUSTED = ("numpy.", "sklearn.")


def write_estimator(pipeline: Any, path: Path) -> None:
    """Write the pipeline."""
    import skops.io

    with atomic_file(path) as file:
        file.write(skops.io.dumps(pipeline))


def read_estimator(path: Path) -> Any:
    """Return the pipeline, provided that it holds only types of NumPy and scikit-learn."""
    import skops.io

    types = skops.io.get_untrusted_types(file=path)
    strange = [name for name in types if not name.startswith(TRUSTED)]
    if strange:
        raise UserError(
            f"{path.name} holds types other than those of scikit-learn and NumPy: {', '.join(strange[:5])}.",
            "Train again with `medloop train`.",
        )
    return skops.io.load(path, trusted=types)
