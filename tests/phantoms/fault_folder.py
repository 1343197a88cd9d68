"""The written phantoms while faults are planted in them, so that the tables stay true."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from medloop.phantoms.spec import SUFFIX, Format, Identity, PhantomSpec
from medloop.phantoms.write import Written, path_of
from tests.phantoms.altered import Change, alter


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault to plant, in a share of the cases or in one class."""

    name: str
    share: float = 0.05
    label: str | None = None

    def __post_init__(self) -> None:
        if not 0 < self.share <= 1:
            raise ValueError(f"share is {self.share}, not above 0 and at most 1")


@dataclass(frozen=True, kw_only=True)
class Planted:
    """What one fault did: the files it made or changed and, for copies, the file that each came from."""

    fault: str
    paths: tuple[str, ...]
    sources: tuple[str, ...] = ()
    label: str | None = None
    true_labels: tuple[str, ...] = ()


class Folder:
    """The rows and files of a folder of phantoms, changed together."""

    def __init__(self, root: Path, *, spec: PhantomSpec, rows: Sequence[Written], rng: np.random.Generator) -> None:
        self.root, self.spec, self.rng = root, spec, rng
        self.rows = list(rows)
        self.name_label = False
        # A file bears one fault of its own at most, or no record would be true of it.
        self.touched: set[str] = set()
        self._moved: dict[str, str] = {}
        self._at = {row.path: place for place, row in enumerate(self.rows)}
        self._next_patient = spec.patients

    @property
    def form(self) -> Format:
        """The format that the pictures are written in."""
        return self.spec.format

    def class_of(self, fault: Fault) -> str:
        """The class that a fault singles out."""
        usual = "normal" if "normal" in self.spec.classes else self.spec.classes[0]
        return fault.label or usual

    def free(self, fault: Fault, *, split: str | None = None) -> list[Written]:
        """The cases that bear no fault of their own."""
        return [
            row
            for row in self.rows
            if row.path not in self.touched and fault.label in (None, row.label) and split in (None, row.split)
        ]

    def count(self, fault: Fault) -> int:
        """How many cases are the fault's share."""
        return max(1, round(fault.share * len(self.rows)))

    def pick(self, fault: Fault, *, split: str | None = None) -> list[Written]:
        """Choose the share of the cases, none of which bears a fault of its own, and mark them."""
        free, count = self.free(fault, split=split), self.count(fault)
        if count > len(free):
            raise ValueError(f"{fault.name} needs {count} cases without another fault, and {len(free)} have none")
        chosen = [free[i] for i in sorted(self.rng.choice(len(free), count, replace=False))]
        self.touched.update(row.path for row in chosen)
        return chosen

    def read(self, row: Written) -> bytes:
        """The bytes of a case."""
        return (self.root / row.path).read_bytes()

    def write(self, row: Written, data: bytes) -> None:
        """Write the bytes of a case, whatever they are."""
        target = self.root / row.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(data)

    def move(self, row: Written, *, label: str | None = None, split: str | None = None) -> Written:
        """Give a file another label or folder, under the name that is then right for it."""
        wanted = replace(row, label=label or row.label, split=split or row.split)
        moved = replace(wanted, path=path_of(wanted, suffix=Path(row.path).suffix, name_label=self.name_label))
        target = self.root / moved.path
        target.parent.mkdir(parents=True, exist_ok=True)
        (self.root / row.path).rename(target)
        self.note(row, moved)
        self._moved[row.path] = moved.path
        return moved

    def now(self, path: str) -> str:
        """Where a file lies after all that moved it."""
        while path in self._moved and self._moved[path] != path:
            path = self._moved[path]
        return path

    def note(self, row: Written, changed: Written) -> None:
        """Put a changed row in the place of the old one."""
        place = self._at.pop(row.path)
        self.rows[place] = changed
        self._at[changed.path] = place

    def twin(self, row: Written, *, label: str | None = None, split: str | None = None, suffix: str = "") -> Written:
        """The row of a copy that passes for a further patient; its file is still to be written."""
        patient = f"S{self.spec.seed}P{self._next_patient:05d}"
        self._next_patient += 1
        wanted = replace(row, patient_id=patient, label=label or row.label, split=split or row.split)
        copy = replace(wanted, path=path_of(wanted, suffix=suffix or SUFFIX[self.form], name_label=self.name_label))
        self._at[copy.path] = len(self.rows)
        self.rows.append(copy)
        self.touched.add(copy.path)
        return copy

    def change(self, row: Written, change: Change, *, onto: Written | None = None) -> None:
        """Change the picture of a case where it lies, or as the file of its twin."""
        target = onto or row
        identity = Identity(patient_id=target.patient_id, index=target.index)
        self.write(target, alter(self.read(row), self.form, change, identity=identity))
