"""The stages for images, where they differ from those for a table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, overload

from medloop.steps.project import Project


class FileBytes(Sequence[bytes]):
    """The bytes of files, read when they are asked for and not kept."""

    def __init__(self, project: Project, paths: Sequence[str]) -> None:
        self._files = [project.root / path for path in paths]

    def __len__(self) -> int:
        return len(self._files)

    @overload
    def __getitem__(self, place: int) -> bytes: ...
    @overload
    def __getitem__(self, place: slice) -> list[bytes]: ...
    def __getitem__(self, place: int | slice) -> bytes | list[bytes]:
        if isinstance(place, slice):
            return [file.read_bytes() for file in self._files[place]]
        return self._files[place].read_bytes()


def has_images(project: Project) -> bool:
    """Whether the project learns from images."""
    from medloop.data import find_source

    return find_source(project.recipe.data.source).gives == "images"


def prepare_images(project: Project, cases: Any, task: Mapping[str, Any]) -> str:
    """The cases' files -> one array of one size."""
    from medloop.prepare.image import ImagePreparer
    from medloop.prepare.prepared_images import ImageFile, write_prepared_images
    from medloop.prepare.rule import DecodeRule

    section = project.recipe.prepare
    preparer = ImagePreparer(
        size=section.size,
        channels=section.channels,
        fit=section.fit,
        rule=DecodeRule(window=section.window, frame=section.frame),
    )
    paths = [path if path.startswith("/") else f"{project.root}/{path}" for path in cases["path"].tolist()]
    files = list(map(ImageFile, cases["case_id"].tolist(), paths, cases["file_sha256"].tolist()))
    done = write_prepared_images(files, cases["label"].tolist(), preparer, task, project.work / "prepared")
    height, width, channels = preparer.shape
    return f"{done} of {len(files)} images prepared anew, {height} x {width} x {channels}"


def train_images(project: Project, tuned: Mapping[str, Any]) -> str:
    """The prepared images -> work/trained/."""
    from medloop.train.learn_images import train_images as train

    recipe = project.recipe
    result = train(
        project.work / "prepared",
        project.work / "splits.parquet",
        recipe.model,
        recipe.train,
        tuned=tuned,
        folder=project.work / "trained",
        cache=project.work / "cache",
        root=project.root,
    )
    best = result.history.sort_values("val_loss").iloc[0]
    return f"{recipe.train.mode}: held-out AUC {best['roc_auc']:.3f}, accuracy {best['accuracy']:.3f}"
