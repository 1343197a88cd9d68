"""The stages of the loop, in order: STAGES declares each, and the module of the same name runs it.

`medloop run`, the command line and DVC read this dict. It imports no stage, so that `medloop --help` stays quick.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from medloop.steps.libraries import ARRAYS, DECODERS, LEARNING, NETWORKS, installed_versions

if TYPE_CHECKING:
    from medloop.steps.project import Project

Run = Callable[["Project"], str]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What a stage reads, writes and depends on; paths are those below the work folder."""

    help: str
    reads: tuple[str, ...] = ()
    writes: tuple[str, ...] = ()
    # Outputs that outlast the stage: what was written before is there when it runs again.
    lasting: tuple[str, ...] = ()
    # Sections or fields of the recipe.
    sections: tuple[str, ...] = ()
    # Packages of medloop whose code the result depends on, besides the words and `steps`.
    packages: tuple[str, ...] = ()
    # Libraries whose release the result depends on: for every kind of data, and for one kind only.
    libraries: tuple[str, ...] = ()
    kind_libraries: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    # A quicker function of the stage's module, sufficient where only this field of the recipe has changed.
    shortcuts: Mapping[str, str] = field(default_factory=dict)

    def library_versions(self, kind: str) -> dict[str, str]:
        """Return the installed release of each library that the result depends on."""
        return installed_versions((*self.libraries, *self.kind_libraries.get(kind, ())))


STAGES: dict[str, Stage] = {
    "ingest": Stage(
        help="Read the source into the manifest of cases.",
        writes=("cases.parquet",),
        sections=("data", "prepare.frame", "prepare.window"),
        packages=("data", "decode", "prepare", "phantoms"),
        libraries=ARRAYS,
        kind_libraries={"images": DECODERS},
    ),
    "audit": Stage(
        help="Examine the data before anything is trained.",
        reads=("cases.parquet",),
        lasting=("audit",),
        sections=("audit",),
        packages=("audit", "data", "decode", "models", "metrics"),
        libraries=LEARNING,
        kind_libraries={"images": (*DECODERS, "torch", "timm", "cleanlab")},
        shortcuts={"audit.accept": "accept"},
    ),
    "split": Stage(
        help="Set test cases and folds apart, by patient and duplicate group.",
        reads=("cases.parquet", "audit"),
        writes=("splits.parquet", "split.json"),
        lasting=("edition.json",),
        sections=("split",),
        packages=("data",),
        libraries=ARRAYS,
    ),
    "prepare": Stage(
        help="Convert the cases to the model's input, once.",
        reads=("cases.parquet",),
        writes=("prepared",),
        sections=("data", "prepare"),
        packages=("prepare", "decode", "data"),
        libraries=ARRAYS,
        kind_libraries={"images": DECODERS},
    ),
    "tune": Stage(
        help="Search the hyperparameter ranges of the recipe.",
        reads=("splits.parquet", "prepared"),
        writes=("tuned.yaml", "tune.json"),
        sections=("model", "train", "tune"),
        packages=("train", "decode", "prepare", "models", "metrics"),
        libraries=(*LEARNING, "optuna"),
        kind_libraries={"images": NETWORKS},
    ),
    "train": Stage(
        help="Cross-validate, then fit on all training cases.",
        reads=("splits.parquet", "prepared", "tuned.yaml", "audit"),
        writes=("trained",),
        sections=("model", "train"),
        packages=("train", "decode", "prepare", "models", "metrics"),
        libraries=LEARNING,
        kind_libraries={"images": (*NETWORKS, "lightning-fabric")},
    ),
    "export": Stage(
        help="Make the bundle: ONNX graph, calibration, threshold.",
        reads=("trained", "splits.parquet", "split.json", "tune.json", "prepared", "edition.json", "cases.parquet"),
        writes=("bundle",),
        sections=("name", "export"),
        packages=("bundle", "decode", "prepare", "metrics", "models"),
        libraries=(*LEARNING, "onnx", "onnxruntime"),
        kind_libraries={"table": ("skl2onnx",), "images": (*NETWORKS, "onnxscript")},
    ),
    "evaluate": Stage(
        help="Score the bundle on the locked test cases.",
        reads=("bundle", "splits.parquet", "cases.parquet", "audit", "prepared"),
        writes=("report",),
        sections=("evaluate",),
        packages=("evaluate", "bundle", "decode", "prepare", "metrics", "data", "models", "train"),
        libraries=(*LEARNING, "onnxruntime", "matplotlib"),
        kind_libraries={"images": (*DECODERS, "torch", "timm")},
    ),
}

# These have outcomes, not outputs: they run every time and are no stages of DVC.
OUTCOMES: dict[str, Stage] = {
    "gate": Stage(help="Check the report against the rules of the gate; exit code 3 means refused."),
    "register": Stage(help="Store the version, and promote it if the gate passed."),
}


def function_of(name: str, function: str = "run") -> Run:
    """Return a function of the stage's module."""
    found: Run = getattr(importlib.import_module(f"{__name__}.{name}"), function)
    return found
