"""Small image models for the tests of the export and the prediction: bright discs on grey noise, learned in seconds."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import save_file

from medloop.bundle.export.image import export_images
from medloop.bundle.export.table import Origin, export_table
from medloop.models.augment import Views
from medloop.models.backbone import Classifier, build_classifier
from medloop.prepare.image import ImagePreparer
from medloop.prepare.prepared_table import write_prepared as write_rows
from medloop.prepare.table import TablePreparer
from medloop.recipe import AugmentSection, ExportSection, ModelSection, TrainSection
from medloop.storage import write_json
from medloop.train.learning import read_learning
from medloop.train.tables.fit import train_table

SIZE = 48
CLASSES = ("clear", "disc")
PARTS = {"train": 160, "val": 60, "calib": 100, "test": 80}
SLICES = 2
PARAMS = {"backbone": "test_resnet", "weights": "none", "dropout": 0.0, "stem": "own"}

VIEWS = Views(count=1, augment=AugmentSection(), seed=0, batch_size=32)

ORIGIN = Origin(
    name="discs",
    recipe={"train": {}, "data": {"missing": [""]}},
    data_version="d",
    edition="e",
    smoke=False,
    git_commit=None,
)

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Disc:
    """A picture with its class and, where there is one, the centre of its disc."""

    pixels: Pixels
    y: int
    x: int
    row: int


def draw_disc(rng: np.random.Generator, y: int) -> Disc:
    """Grey noise of changing brightness, and the disc of class 1."""
    pixels = rng.normal(rng.uniform(70, 110), 12, (SIZE, SIZE))
    x, row = (int(one) for one in rng.integers(10, SIZE - 10, 2))
    if y:
        rows, columns = np.mgrid[:SIZE, :SIZE]
        pixels += rng.uniform(50, 90) * ((rows - row) ** 2 + (columns - x) ** 2 < 36)
    return Disc(np.clip(pixels, 0, 255).astype(np.uint8), y, x, row)


def draw_discs(count: int, *, seed: int) -> list[Disc]:
    """Patients of two slices, every other one with discs."""
    rng = np.random.default_rng(seed)
    return [draw_disc(rng, (number // SLICES) % 2) for number in range(count)]


def png(pixels: Pixels) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def write_project(
    folder: Path, *, mode: str, parts: dict[str, int] | None = None, epochs: int = 6, folds: bool = False
) -> Path:
    """What the stages before the export would have left: prepared/, splits.parquet and trained/."""
    parts = parts or PARTS
    discs = draw_discs(sum(parts.values()), seed=7)
    names = [f"case{number:04d}" for number in range(len(discs))]
    part = np.repeat(list(parts), list(parts.values()))
    fold = np.where(part == "train", np.arange(len(discs)) // SLICES // 2 % 4, -1)
    images = np.stack([disc.pixels for disc in discs])[..., None]
    write_prepared(folder / "prepared", images, discs, names)
    groups = [f"patient{number // SLICES}" for number in range(len(discs))]
    pd.DataFrame({"case_id": names, "part": part, "fold": fold, "group": groups}).to_parquet(folder / "splits.parquet")
    y = np.array([disc.y for disc in discs])
    held = (part == "train") if folds else (part == "val") if "val" in parts else (fold == 0)
    model = learn(images[part == "train"], y[part == "train"], epochs=epochs if mode == "finetune" else 0)
    shares = predict(model, images[held])
    kept = {"case_id": np.array(names)[held], "group": np.array(groups)[held], "y": y[held]}
    held_out = pd.DataFrame({**kept, "p0": shares[:, 0], "p1": shares[:, 1]})
    write_trained(folder / "trained", model, held_out, mode=mode, folds=folds)
    return folder


def write_prepared(folder: Path, images: Pixels, discs: list[Disc], names: list[str]) -> None:
    folder.mkdir(parents=True)
    np.save(folder / "images.npy", images)
    labels = [CLASSES[disc.y] for disc in discs]
    write_json(folder / "index.json", {"key": "discs", "case_ids": names, "labels": labels})
    write_json(folder / "preparer.json", {"kind": "image", **ImagePreparer(size=SIZE, channels=1).to_json()})
    write_json(folder / "task.json", {"task": "images", "classes": list(CLASSES), "positive": ["disc"]})


def write_trained(folder: Path, model: Classifier, held_out: pd.DataFrame, *, mode: str, folds: bool) -> None:
    folder.mkdir()
    save_file(model.state_dict(), folder / "weights.safetensors")
    held_out.to_parquet(folder / "held_out.parquet")
    head_c = 0.1 if mode == "head" else None
    model = {"name": "backbone", "params": PARAMS, "seed": 0, "mode": mode, "head_C": head_c}
    write_json(folder / "model.json", {**model, "views": VIEWS.to_json(), "balanced": False})
    write_json(folder / "environment.json", {"packages": {}})
    rows = [{"fold": -1, "epoch": epoch, "val_loss": 1 / epoch, "accuracy": epoch / 4} for epoch in (1, 2, 3)]
    rows += [{"fold": fold, "epoch": 3, "val_loss": 0.5, "accuracy": 0.9} for fold in range(4 if folds else 0)]
    pd.DataFrame(rows).to_csv(folder / "history.csv", index=False)


def learn(images: Pixels, y: NDArray[np.int64], *, epochs: int) -> Classifier:
    torch.manual_seed(0)
    model = build_classifier(classes=2, channels=1, size=SIZE, **PARAMS)  # type: ignore[arg-type]
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    pixels, labels = torch.from_numpy(images).permute(0, 3, 1, 2).float(), torch.from_numpy(y)
    for _ in range(epochs):
        for rows in torch.randperm(len(labels)).split(16):
            loss = torch.nn.functional.cross_entropy(model.train()(pixels[rows])[0], labels[rows])
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    return model.eval()


def predict(model: Classifier, images: Pixels) -> NDArray[np.float64]:
    with torch.inference_mode():
        logits = model(torch.from_numpy(images).permute(0, 3, 1, 2).float())[0]
    return np.asarray(torch.softmax(logits.double(), 1).numpy())


def export_project(folder: Path, **options: Any) -> dict[str, Any]:
    """Export into folder/bundle."""
    section = ExportSection(**options)
    return export_images(
        folder / "trained",
        folder / "prepared",
        folder / "splits.parquet",
        section,
        origin=ORIGIN,
        folder=folder / "bundle",
    )


def make_discs(folder: Path) -> Path:
    """A fine-tuned network with its bundle."""
    write_project(folder, mode="finetune")
    export_project(folder, threshold="sensitivity >= 0.95")
    return folder


def make_heads(folder: Path) -> Path:
    """A head on a frozen network with its bundle, which decides by patient; four folds and no calib part."""
    write_project(folder, mode="head", parts={"train": 160, "test": 80}, folds=True)
    export_project(folder, threshold="youden", per="patient", combine="mean", precision="int8")
    return folder


def export_rows(folder: Path) -> Path:
    """A table of two columns, learned and exported; its bundle is returned."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 2
    values = {name: (rng.normal(size=60) + 2 * y).tolist() for name in ("width", "depth")}
    names = [f"row{number}" for number in range(60)]
    cases = pd.DataFrame({"case_id": names, "label": [CLASSES[one] for one in y]})
    cases = cases.assign(**{f"row.{name}": column for name, column in values.items()})
    preparer = TablePreparer.fit(values, categories=(), max_categories=2)
    write_rows(cases, preparer, {"task": "table", "classes": list(CLASSES), "positive": ["disc"]}, folder / "prepared")
    splits = pd.DataFrame({"case_id": names, "part": "train", "fold": np.arange(60) // 2 % 3, "group": names})
    splits.to_parquet(folder / "splits.parquet")
    learning = read_learning(folder / "prepared", folder / "splits.parquet")
    train_table(learning, ModelSection(), TrainSection(), tuned={}, folder=folder / "trained")
    places = (folder / name for name in ("trained", "prepared", "splits.parquet"))
    export_table(*places, ExportSection(), origin=ORIGIN, folder=folder / "bundle")
    return folder / "bundle"
