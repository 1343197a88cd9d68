"""One picture through the model: the bundle in 8 bits against the trained network in torch."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from benchmarks.learning_sets import SIZE, learn, learning_project, part_of
from benchmarks.plain_torch import build
from benchmarks.row import Row, interleaved
from medloop.bundle import files
from medloop.bundle.export.image import export_images
from medloop.bundle.export.table import Origin
from medloop.bundle.inputs import model_input
from medloop.bundle.session import open_session
from medloop.prepare.prepared_images import read_prepared_images
from medloop.recipe import ExportSection
from medloop.steps.project import Project
from medloop.steps.stages import prepare

BACKBONE = "resnet18"
COUNT = 600
EPOCHS = 8
ROUNDS = 200
TIMES, AGREEMENT = 4, 0.99
ORIGIN = Origin(name="bench", recipe={}, data_version="", edition="", smoke=True, git_commit=None)


def measure() -> list[Row]:
    """Both on one core, as the service runs a model, and on all."""
    with tempfile.TemporaryDirectory() as temporary:
        project = learning_project(Path(temporary), COUNT)
        prepare.run(project)
        learn(project, BACKBONE, mode="finetune", epochs=EPOCHS, patience=0)
        work = project.work
        export_images(
            *(work / "trained", work / "prepared", work / "splits.parquet", ExportSection(precision="int8")),
            origin=ORIGIN,
            folder=work / "bundle",
        )
        return _compare(project)


def _compare(project: Project) -> list[Row]:
    pictures = read_prepared_images(project.work / "prepared")
    tested = np.flatnonzero(np.isin(pictures.case_ids, list(part_of(project, "test").index)))
    classifier = build(BACKBONE, len(pictures.task["classes"]), SIZE).eval()
    classifier.load_state_dict(load_file(project.work / "trained" / files.WEIGHTS))
    graph = (project.work / "bundle" / files.MODEL).read_bytes()
    inputs = [model_input(np.asarray(pictures.images[[row]])) for row in tested]
    rows = []
    for cores in sorted({1, torch.get_num_threads()}):
        before = torch.get_num_threads()
        torch.set_num_threads(cores)
        session = open_session(graph, threads=cores)
        works = {
            "int8": partial(session.run, ["logits", "embedding"], inputs[0]),
            "torch": partial(_in_torch, classifier, inputs[0]),
        }
        seconds = interleaved(works, before=lambda: None, rounds=ROUNDS)
        torch.set_num_threads(before)
        rows.append(_speed(cores, seconds["int8"], seconds["torch"]))
    agree = [
        int(session.run(["logits"], one)[0].argmax()) == int(_in_torch(classifier, one).argmax()) for one in inputs
    ]
    return [*rows, _agreement(float(np.mean(agree)), len(agree))]


def _in_torch(classifier: torch.nn.Module, inputs: dict[str, NDArray[np.float32]]) -> torch.Tensor:
    with torch.inference_mode():
        return torch.as_tensor(classifier(torch.from_numpy(inputs["image"]))[0])


def _speed(cores: int, small: float, exact: float) -> Row:
    return Row(
        what=f"{BACKBONE}, one image of {SIZE} pixels, {cores} core(s): int8 bundle {1000 * small:.1f} ms, "
        f"torch eager {1000 * exact:.1f} ms",
        found=f"{exact / small:.1f} x",
        wanted=f">= {TIMES} x",
        holds=exact >= TIMES * small,
    )


def _agreement(share: float, count: int) -> Row:
    return Row(
        what=f"{BACKBONE}: decisions of the int8 bundle and of torch on {count} test images",
        found=f"{share:.1%} agree",
        wanted=f">= {AGREEMENT:.0%}",
        holds=share >= AGREEMENT,
    )
