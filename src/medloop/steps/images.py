"""The stages for images, where they differ from those for a table."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

from medloop.bundle import files
from medloop.errors import BrokenBundle, UserError
from medloop.prepare.rule import DecodeRule
from medloop.recipe import ModelSection, Recipe
from medloop.steps.project import Project
from medloop.steps.tracked import content_name, epoch_log, flat_params
from medloop.steps.versions import store_of
from medloop.storage import read_json, sha256_file
from medloop.storage.names import local_path

CHAMPION = "champion"

if TYPE_CHECKING:
    from medloop.evaluate.beside import Beside


class FileBytes(Sequence[bytes]):
    """The bytes of the cases' files, read when they are asked for and not kept."""

    def __init__(self, project: Project, cases: Any) -> None:
        self._root = project.root
        self._files = list(zip(cases["path"], cases["case_id"], strict=True))

    def __len__(self) -> int:
        return len(self._files)

    @overload
    def __getitem__(self, place: int) -> bytes: ...
    @overload
    def __getitem__(self, place: slice) -> list[bytes]: ...
    def __getitem__(self, place: int | slice) -> bytes | list[bytes]:
        if isinstance(place, slice):
            return [read_case(self._root, *file) for file in self._files[place]]
        return read_case(self._root, *self._files[place])


def read_case(root: Path, path: str, case_id: str) -> bytes:
    """The bytes of a case's file, which was there when the case was ingested."""
    try:
        return (root / local_path(path)).read_bytes()
    except OSError as error:
        raise UserError(
            "the file of every case must still be there, as it was ingested",
            found=f"case {case_id}: {error.strerror}",
            hint=f"`medloop cases {case_id}` names the file: restore it, or run `medloop ingest` again",
        ) from None


def has_images(project: Project) -> bool:
    """Whether the project learns from images."""
    from medloop.data import find_source

    return find_source(project.recipe.data.source).gives == "images"


def files_of(project: Project, cases: Any) -> FileBytes | None:
    """The bytes of the cases' files; None for a table."""
    return FileBytes(project, cases) if has_images(project) else None


def ingest_rule(recipe: Recipe) -> DecodeRule:
    """How ingest and audit read files of many frames; frames that are pictures of their own are windowed there."""
    section = recipe.prepare
    if section.frame != "all":
        return DecodeRule(frame=section.frame)
    return DecodeRule(frame="all", window=section.window)


def prepare_images(project: Project, cases: Any, task: Mapping[str, Any]) -> str:
    """The cases' files -> one array of one size."""
    from medloop.prepare.image import ImagePreparer
    from medloop.prepare.prepared_images import ImageFiles, write_prepared_images

    section = project.recipe.prepare
    preparer = ImagePreparer(
        size=section.size,
        channels=section.channels,
        fit=section.fit,
        rule=DecodeRule(window=section.window, frame=section.frame),
    )
    paths = [path if path.startswith("/") else f"{project.root}/{path}" for path in map(local_path, cases["path"])]
    files = ImageFiles(cases["case_id"].tolist(), paths, cases["file_sha256"].tolist())
    done = write_prepared_images(files, cases["label"].tolist(), preparer, task, project.work / "prepared")
    height, width, channels = preparer.shape
    return f"{done} of {len(paths)} images prepared anew, {height} x {width} x {channels}"


def train_images(project: Project, tuned: Mapping[str, Any]) -> str:
    """The prepared images -> work/trained/."""
    from medloop.train.learn_images import train_images as train
    from medloop.train.space import with_tuned

    recipe, work, model = project.recipe, project.work, model_of(project)
    params, section = with_tuned(model, recipe.train, tuned)
    check_export(project, model.name, params)
    tags = {"training_inputs": content_name(project, repr(params), section.model_dump_json())}
    with epoch_log(project) as log, log.run("train", tags=tags, params=flat_params(model.name, params, section)) as run:
        result = train(
            work / "prepared",
            work / "splits.parquet",
            model,
            recipe.train,
            tuned=tuned,
            folder=work / "trained",
            cache=work / "cache",
            root=project.root,
            on_epoch=run.log,
        )
        run.tag(training=read_json(work / "trained" / "model.json")["training"])
    best = result.history.sort_values("val_loss").iloc[0]
    return (
        f"{recipe.train.mode}: held-out AUC {best['roc_auc']:.3f}, accuracy {best['accuracy']:.3f} before export sets "
        "the threshold"
    )


def check_export(project: Project, name: str, params: Mapping[str, Any]) -> None:
    """Refuse a network that could be trained and not exported, before it is trained."""
    from medloop.bundle.export_trial import PARITY, try_export
    from medloop.prepare.prepared_images import read_prepared_images

    # An untrained network says whether the graph is right, not to the last digit how right.
    bound = max(project.recipe.export.parity or PARITY, PARITY)
    shape = read_prepared_images(project.work / "prepared").preparer.shape
    try_export(name, params, shape=shape, bound=bound, cache=project.work / "cache")


def model_of(project: Project) -> ModelSection:
    """The recipe's model, with the file that `weights: champion` stands for."""
    model = project.recipe.model
    return with_weights(project, model, CHAMPION) if model.params.get("weights") == CHAMPION else model


def with_weights(project: Project, model: ModelSection, weights: str) -> ModelSection:
    """The model beginning with these weights; those of the champion are a file of the model store."""
    content = {**model.model_dump(), "weights": _champion_weights(project) if weights == CHAMPION else weights}
    return ModelSection.model_validate(content)


def _champion_weights(project: Project) -> str:
    """Named from the project's folder, for the name travels with the bundle."""
    store = store_of(project)
    champion = store.champion()
    if champion is None:
        raise UserError(
            "weights: champion needs a version that serves",
            found="no champion in the model store",
            hint="begin with weights: imagenet, none or a file; what the gate lets pass is the champion afterwards",
        )
    bundle = store.version(champion.version).folder / "bundle"
    files.verify(bundle)
    if not (bundle / files.WEIGHTS).is_file():
        raise UserError(
            "weights: champion needs a champion that learned from images",
            found=f"version {champion.version} has no {files.WEIGHTS}",
            hint="begin with weights: imagenet, none or a file",
        )
    return os.path.relpath(bundle / files.WEIGHTS, project.root)


def begins_with(project: Project) -> dict[str, str]:
    """The weights that a training may begin with, each by its name in the recipe with a hash."""
    space = project.recipe.tune.space.get("weights")
    names = {str(name) for name in (project.recipe.model.params.get("weights"), *(space.choices if space else ()))}
    found = {name: project.root / name for name in sorted(names - {CHAMPION}) if (project.root / name).is_file()}
    hashes = {f"the file {name} (model.weights)": sha256_file(path) for name, path in found.items()}
    return {**hashes, **({"the champion (model.weights)": _champion_bundle(project)} if CHAMPION in names else {})}


def _champion_bundle(project: Project) -> str:
    """The bundle that serves; where it was made here out of a champion, that one."""
    champion, own = store_of(project).champion(), project.work / "bundle"
    if champion is None:
        return "none"
    with suppress(BrokenBundle):
        if (own / files.META).is_file() and files.verify(own) == champion.bundle:
            meta = read_json(own / files.META)
            # Else a model that the gate let pass would be trained again, each time from itself.
            if meta["recipe"]["model"].get("weights") == CHAMPION:
                return str(meta["parent"])
    return champion.bundle


def parent_of(project: Project) -> str | None:
    """The hash of the bundle that the training began with, if it was one."""
    weights = read_json(project.work / "trained" / "model.json")["params"].get("weights")
    bundle = (project.root / str(weights)).parent
    is_bundle = Path(str(weights)).name == files.WEIGHTS and (bundle / files.META).is_file()
    return files.verify(bundle) if is_bundle else None


def untrained(project: Project, case_ids: Sequence[str]) -> Beside:
    """What an untrained network says of these cases, to stand beside the model in the report."""
    from medloop.evaluate.beside import Beside
    from medloop.train.untrained import untrained_probabilities

    return Beside(
        name="untrained network",
        says="A ResNet-18 with random weights, under a linear head fitted on the same training cases.",
        probabilities=untrained_probabilities(project.work / "prepared", project.work / "splits.parquet", case_ids),
    )
