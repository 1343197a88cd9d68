"""What the example of a source is: files in a folder, written in some order, and the recipe section that reads them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

Order = Callable[[Sequence[Any]], Iterable[Any]]
Example = Callable[[Path, Order], dict[str, Any]]
CLASSES = ("nodule", "normal")
COUNT = 8


def pictures(folder: Path, order: Order) -> list[tuple[str, str]]:
    """Files of two classes, written in this order; no two alike."""
    written = []
    for number in order(range(COUNT)):
        name = f"{CLASSES[number % 2]}/{number:02d}.png"
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        grey = np.random.default_rng(number).integers(0, 255, (12, 10), dtype=np.uint8)
        Image.fromarray(grey).save(folder / name)
        written.append((name, CLASSES[number % 2]))
    return written
