"""Small projects that differ in everything a report describes: partitions, training and selection."""

from __future__ import annotations

import csv
import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
import yaml

from medloop.storage import read_json
from tests.loop_project import STAGES, edit_recipe, made_once, new_table, run_stages, small_rows

FILES = ("report.html", "card.md", "tripod_ai.md", "claim.md")
QUICK = {"draws": 100}
TINY = {"name": "backbone", "backbone": "test_resnet"}

Make = Callable[[Path], Path]


@dataclass(frozen=True)
class ReportedProject:
    """A finished project with the texts of its report."""

    folder: Path

    @property
    def work(self) -> Path:
        return self.folder / "work"

    @property
    def report(self) -> dict[str, Any]:
        content: dict[str, Any] = read_json(self.work / "report" / "report.json")
        return content

    @property
    def splits(self) -> pd.DataFrame:
        cases = pd.read_parquet(self.work / "cases.parquet")
        return pd.read_parquet(self.work / "splits.parquet").merge(cases, on="case_id")

    @property
    def tuned(self) -> dict[str, float]:
        values: dict[str, float] = yaml.safe_load((self.work / "tuned.yaml").read_text("utf-8"))
        return values

    def text(self, name: str) -> str:
        """Return the text of one file."""
        return unescape((self.work / "report" / name).read_text("utf-8"))

    @property
    def whole(self) -> str:
        """All four files, without the images of the page."""
        return "\n".join(re.sub(r"data:image/[^\"]+", "", self.text(name)) for name in FILES)

    def line(self, name: str) -> str:
        """Return a line of the section `Provenance` of the card."""
        (line,) = re.findall(rf"^- {name}: (.*)$", self.text("card.md"), re.M)
        return str(line)

    def item(self, file: str, number: str) -> str:
        """Return the text of an item of a checklist."""
        (row,) = re.findall(rf"^\| {number} \| .*? \| .*? \| (.*) \|$", self.text(file), re.M)
        return str(row)

    def limits(self) -> str:
        return self.item("claim.md", "40")


def run(folder: Path, *stages: str) -> Path:
    """The stages as a second process would run them, which tells no tracking server of what it does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RANK", "1")
        run_stages(folder, *(stages or STAGES))
    return folder


def make_tuned_table(folder: Path) -> Path:
    """A rare class, weighted; a tuned value; no patients; evaluated again by another recipe than at the export."""
    draw = random.Random(3)  # noqa: S311 - made-up cases, not secrets
    kinds = [int(number % 8 == 0) for number in range(480)]
    rows = [{"marker": draw.gauss(1.2 * k, 1), "diagnosis": ("benign", "malignant")[k]} for k in kinds]
    new_table(folder, rows)
    space = {"C": {"low": 0.1, "high": 1.0, "log": True}}
    edit_recipe(folder, model={"C": 7.5, "class_weight": "balanced"}, tune={"trials": 2, "space": space})
    run(folder)
    edit_recipe(folder, evaluate={"draws": 150, "seed": 5, "prevalence": 0.02})
    return run(folder, "evaluate")


def make_classes_table(folder: Path) -> Path:
    """Three classes of which none is positive, two rows a patient."""
    rows = [
        {**row, "patient": f"P{number // 6}-{row['diagnosis']}"}
        for number, row in enumerate(small_rows(240, seed=4, classes=("cyst", "fibroma", "lipoma")))
    ]
    new_table(folder, rows, positive=[], patient="patient")
    return run(folder)


def make_listed_images(folder: Path) -> Path:
    """Parts that the list names; patients; all weights learned, weighted, with a learning rate that tuning chose."""
    rng, rows = np.random.default_rng(1), []
    (folder / "scans").mkdir(parents=True)
    for number in range(72):
        patient, label = number // 2, ("clear", "disc")[number // 2 % 4 == 0]
        part = ("train", "train", "train", "val", "test", "test")[patient // 4 % 6]
        name = f"{number:03d}.png"
        (folder / "scans" / name).write_bytes(picture(rng, size=7 * (label == "disc")))
        rows.append({"file": name, "finding": label, "who": f"P{patient}", "part": part})
    write_list(folder / "scans" / "list.csv", rows)
    data = {"source": "csv_images", "path": "scans", "index": "list.csv", "image": "file", "label": "finding"}
    data |= {"patient": "who", "split": "part", "classes": ["clear", "disc"], "positive": ["disc"]}
    train = {"mode": "finetune", "epochs": 2, "learning_rate": 0.5, "batch_size": 16, "balance": "weights"}
    tune = {"trials": 2, "space": {"learning_rate": {"low": 0.001, "high": 0.004}}}
    recipe = {"data": data, "split": {"folds": 2, "test": 0.25}, "train": train, "tune": tune}
    return run(write_recipe(folder, **recipe, export={"threshold": "sensitivity >= 0.9"}))


def make_foldered_images(folder: Path) -> Path:
    """Two parts that the folders give; folds; a head of a given strength on changed views; no calibration."""
    rng = np.random.default_rng(2)
    for part, count in (("train", 36), ("valid", 16)):
        for number in range(count):
            label = ("clear", "disc")[number % 2]
            path = folder / "scans" / part / label / f"{number:03d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(picture(rng, size=7 * (label == "disc")))
    data = {"source": "folder", "path": "scans", "classes": ["clear", "disc"], "positive": ["disc"]}
    train = {"mode": "head", "cross_validate": True, "balance": "sampler", "views": 2, "head_c": 0.01}
    recipe = {"data": data, "split": {"folds": 3}, "train": train, "export": {"calibrate": False}}
    return run(write_recipe(folder, **recipe))


def write_recipe(folder: Path, **sections: Mapping[str, Any]) -> Path:
    """A project for tiny pictures; audit findings on such pictures are no matter here."""
    folder.mkdir(parents=True, exist_ok=True)
    accept = ["shortcut", "name_tells_label", "facts_tell_label", "border_tells_label"]
    plain = {"name": folder.name, "audit": {"accept": accept}, "prepare": {"size": 32}, "model": TINY}
    plain |= {"train": {"mode": "head"}, "evaluate": QUICK, "gate": {"rules": []}}
    (folder / "params.yaml").write_text(yaml.safe_dump({**plain, **sections}), "utf-8")
    return folder


def write_list(path: Path, rows: list[dict[str, str]]) -> None:
    """The rows as CSV, in an order that tells nothing."""
    random.Random(0).shuffle(rows)  # noqa: S311 - no secrets
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def picture(rng: np.random.Generator, *, size: int) -> bytes:
    """Grey noise of changing brightness, with a bright disc where a size is given."""
    pixels = rng.normal(rng.uniform(60, 110), 14, (32, 32)).clip(0, 255).astype(np.uint8)
    if size:
        x, y = rng.integers(8, 24, 2)
        cv2.circle(pixels, (int(x), int(y)), size, 200, -1)
    return bytes(cv2.imencode(".png", pixels)[1])


def reported(factory: pytest.TempPathFactory, make: Make) -> ReportedProject:
    return ReportedProject(made_once(factory, make.__name__.removeprefix("make_"), make))
