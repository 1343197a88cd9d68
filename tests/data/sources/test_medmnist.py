"""A MedMNIST file: official parts, grey and colour; what is not one is refused and runs nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from medloop.data.manifest import fingerprint
from medloop.decode.raster import pixel_hash
from medloop.errors import RejectedInput, UserError
from tests.image_files import read_images
from tests.source_examples import Order

COUNTS = {"train": 6, "val": 3, "test": 4}


def example(folder: Path, order: Order) -> dict[str, Any]:
    arrays = {}
    for part, count in {"train": 4, "val": 2, "test": 2}.items():
        rng = np.random.default_rng(count)
        arrays[f"{part}_images"] = rng.integers(0, 255, (count, 28, 28), dtype=np.uint8)
        arrays[f"{part}_labels"] = (np.arange(count) % 2).reshape(-1, 1).astype(np.uint8)
    arrays["train_images"] += np.arange(4, dtype=np.uint8).reshape(-1, 1, 1)
    np.savez(folder / "set.npz", **arrays)
    return {"path": str(folder / "set.npz")}


EXAMPLES = {"medmnist": example}


def arrays(*, colour: bool = False, size: int = 28) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    made: dict[str, Any] = {}
    for part, count in COUNTS.items():
        shape = (count, size, size, 3) if colour else (count, size, size)
        made[f"{part}_images"] = rng.integers(0, 256, shape, dtype=np.uint8)
        made[f"{part}_labels"] = (np.arange(count) % 2).reshape(-1, 1).astype(np.uint8)
    return made


def saved(folder: Path, content: dict[str, Any]) -> Path:
    np.savez_compressed(folder / "set.npz", **content)
    return folder / "set.npz"


@pytest.mark.parametrize("colour", [False, True])
def test_the_pictures_and_their_parts_are_kept(colour: bool, tmp_path: Path) -> None:
    content = arrays(colour=colour)
    cases = read_images(tmp_path / "p", source="medmnist", path=str(saved(tmp_path, content)))
    assert cases["given"].value_counts().to_dict() == COUNTS
    assert set(cases["label"]) == {"0", "1"}
    assert set(cases["mode"]) == {"RGB" if colour else "L"}
    expected = {pixel_hash(image) for part in COUNTS for image in content[f"{part}_images"]}
    assert set(cases["pixel_sha256"]) == expected


def test_numbers_are_renamed_to_classes(tmp_path: Path) -> None:
    path = saved(tmp_path, arrays())
    rename = {"0": "malignant", "1": "benign"}
    cases = read_images(
        tmp_path / "p", source="medmnist", path=str(path), rename=rename, classes=("benign", "malignant")
    )
    assert cases["label"].value_counts().to_dict() == {"malignant": 7, "benign": 6}


def test_reading_again_gives_the_same_cases(tmp_path: Path) -> None:
    path = saved(tmp_path, arrays())
    first, second = (read_images(tmp_path / "p", source="medmnist", path=str(path)) for _ in range(2))
    assert fingerprint(first) == fingerprint(second)


class Payload:
    """Unpickled, it would leave a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("name", ["train_images", "train_labels"])
def test_a_pickle_inside_is_refused_and_never_run(name: str, tmp_path: Path) -> None:
    trap = tmp_path / "ran"
    content = {**arrays(), name: np.array([Payload(trap)] * 6, dtype=object)}
    with pytest.raises(RejectedInput, match="MedMNIST"):
        read_images(tmp_path / "p", source="medmnist", path=str(saved(tmp_path, content)))
    assert not trap.exists()
    assert not (tmp_path / "p" / "work" / "raw-medmnist").exists()


@pytest.mark.parametrize("change", [
    {"train_images": np.zeros((6, 28, 28), np.float32)},
    {"train_images": np.zeros((6, 28, 28, 28), np.uint8)},
    {"train_images": np.zeros((6, 28, 28, 4), np.uint8)},
    {"train_images": np.zeros((5, 28, 28), np.uint8)},
    {"val_labels": np.zeros((3, 14), np.uint8)},
    {"test_labels": np.array([["a"]] * 4)},
])  # fmt: skip
def test_another_shape_or_kind_is_refused(change: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(RejectedInput, match="images and labels of train, val and test"):
        read_images(tmp_path / "p", source="medmnist", path=str(saved(tmp_path, {**arrays(), **change})))


def test_a_missing_part_is_refused(tmp_path: Path) -> None:
    content = {name: array for name, array in arrays().items() if not name.startswith("val")}
    with pytest.raises(RejectedInput):
        read_images(tmp_path / "p", source="medmnist", path=str(saved(tmp_path, content)))


@pytest.mark.parametrize("damage", ["empty", "text", "cut", "single", "flipped"])
def test_a_damaged_file_is_refused(damage: str, tmp_path: Path) -> None:
    path = saved(tmp_path, arrays())
    data = path.read_bytes()
    middle = len(data) // 2
    flipped = data[:middle] + bytes(byte ^ 255 for byte in data[middle : middle + 200]) + data[middle + 200 :]
    path.write_bytes(
        {"empty": b"", "text": b"nothing", "cut": data[:middle], "single": data, "flipped": flipped}[damage]
    )
    if damage == "single":
        with path.open("wb") as file:
            np.save(file, np.zeros(3))
    with pytest.raises(RejectedInput):
        read_images(tmp_path / "p", source="medmnist", path=str(path))


def test_a_file_is_needed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"needs data\.path"):
        read_images(tmp_path / "p", source="medmnist")
