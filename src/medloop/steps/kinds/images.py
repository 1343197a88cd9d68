"""Images: a case is a file, or a frame of one."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medloop.decode.kept import Derived
from medloop.decode.rule import DecodeRule
from medloop.errors import UserError
from medloop.recipe import AuditSection, Kind, ModelSection, Recipe
from medloop.steps.kinds.image_files import FileBytes, read_case
from medloop.steps.kinds.kind import AuditContext, DataKind, DecisionCases, task_of
from medloop.steps.kinds.pictures import CACHE, derived_of, ingest_rule, prepared_name, preparer_of, summaries_of
from medloop.steps.kinds.weights import CHAMPION, starting_weights, with_weights
from medloop.steps.project import Project, patient_key
from medloop.steps.tracked import content_name, epoch_log, flat_params
from medloop.storage import read_json
from medloop.storage.names import local_path

if TYPE_CHECKING:
    import pandas as pd

    from medloop.audit.findings import Audit
    from medloop.bundle.export.table import Origin
    from medloop.evaluate.figures.baselines import BaselineModel
    from medloop.train.compare import Candidate
    from medloop.train.images.examples import ImageLearning
    from medloop.train.tune import Judge

EXAMPLE = "medloop compare resnet18 mobilenetv3_small_100"


class Images(DataKind):
    """Scans, photographs and slices."""

    name: Kind = "images"

    def patient_key(self, project: Project) -> bytes | None:
        """Return the project's key, since DICOM headers name patients."""
        return patient_key(project.root, project.settings)

    def read_rule(self, recipe: Recipe) -> DecodeRule:
        """Return how files of many frames are read; frames that become cases are windowed at ingest."""
        return ingest_rule(recipe)

    def derived(self, recipe: Recipe) -> tuple[Derived, ...]:
        """Return what audit and prepare need of each decoded picture."""
        return derived_of(recipe)

    def audit(self, cases: Any, section: AuditSection, context: AuditContext) -> Audit:
        """Examine the pictures: copies, leaks, shortcuts and doubtful labels."""
        from medloop.audit.images.checks import audit_images
        from medloop.audit.images.page import write_image_audit
        from medloop.decode.pool import Sandbox

        root, folder, rule = context.root, context.folder, context.rule
        scratch = folder.with_name(f".{folder.name}.scratch")
        ids = dict(zip(cases["path"], cases["case_id"], strict=True))
        with Sandbox() as sandbox:
            result = audit_images(
                cases,
                lambda path: sandbox.decode(read_case(root, path, ids[path]), rule=rule).pixels,
                section,
                scratch=scratch,
                names=context.names,
                known=lambda usable: summaries_of(usable, root, rule, context.cache),
            )
        write_image_audit(result, cases, section, folder)
        return result

    def prepare(self, project: Project) -> str:
        """Write all pictures as one array of one size."""
        from medloop.data import manifest
        from medloop.prepare.prepared_images import ImageFiles, write_prepared_images

        cases = manifest.usable(project.cases(("case_id", "path", "label", "file_sha256", "quarantined")))
        preparer = preparer_of(project.recipe)
        cached = project.work / CACHE / prepared_name(preparer)
        paths = [path if path.startswith("/") else f"{project.root}/{path}" for path in map(local_path, cases["path"])]
        files = ImageFiles(cases["case_id"].tolist(), paths, cases["file_sha256"].tolist())
        task = task_of(project, cases["label"].unique().tolist())
        done = write_prepared_images(
            files, cases["label"].tolist(), preparer, task, project.work / "prepared", kept=cached
        )
        # All of them are in the prepared array now.
        shutil.rmtree(cached, ignore_errors=True)
        height, width, channels = preparer.shape
        reused = f" ({len(paths) - done} reused)" if done < len(paths) else ""
        return f"{len(paths)} images{reused}, {height} x {width} x {channels}"

    def model_of(self, project: Project) -> ModelSection:
        """Return the recipe's model, with the champion's weights as a file where it names them."""
        model = project.recipe.model
        return with_weights(project, model, CHAMPION) if model.params.get("weights") == CHAMPION else model

    def learning(self, project: Project) -> ImageLearning:
        """Return the prepared pictures of the parts train and val."""
        from medloop.train.images.examples import read_image_learning

        return read_image_learning(project.work / "prepared", project.work / "splits.parquet")

    def judge(self, project: Project, model: ModelSection) -> tuple[Judge, dict[str, Any]]:
        """Score a trial on the validation cases."""
        from medloop.train.images.candidates import image_judge

        check_export(project, model.name, model.params)
        pictures, recipe = self.learning(project), project.recipe
        judge = image_judge(
            pictures, model, recipe.train, recipe.tune.metric, cache=project.work / "cache", root=project.root
        )
        return judge, pictures.choosing_facts()

    def candidates(self, project: Project, learning: ImageLearning, names: Sequence[str]) -> list[Candidate]:
        """Return backbones: `resnet18` starts as in the recipe, `resnet18=imagenet` from other weights."""
        from medloop.train.images.candidates import image_candidate

        if not names:
            raise UserError("No backbones to compare.", f"Name them, for instance `{EXAMPLE}`.")
        cache, root, section = project.work / "cache", project.root, project.recipe.train
        return [
            image_candidate(learning, _with_backbone(project, name), section, name=name, cache=cache, root=root)
            for name in names
        ]

    def chosen_on(self, project: Project, learning: ImageLearning) -> str:
        """Describe which cases chose the epoch or the head in every fold."""
        mode, val = project.recipe.train.mode, int(learning.is_val.sum())
        what = "the strength of the head" if mode == "head" else "the epoch"
        where = f"{val} validation cases" if val else "the next fold"
        times = " Features already in the cache took no time." if mode == "head" else ""
        return f"Mode {mode}: in every fold {what} was chosen on {where}, and the held-out fold only measured.{times}"

    def train(self, project: Project, tuned: Mapping[str, Any]) -> str:
        """Fit a head on cached features, or the whole network."""
        from medloop.train.images.learn import train_images
        from medloop.train.space import with_tuned

        recipe, work, model = project.recipe, project.work, self.model_of(project)
        params, section = with_tuned(model, recipe.train, tuned)
        check_export(project, model.name, params)
        tags = {"training_inputs": content_name(project, repr(params), section.model_dump_json())}
        flat = flat_params(model.name, params, section)
        with epoch_log(project) as log, log.run("train", tags=tags, params=flat) as run:
            result = train_images(
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
            f"{recipe.train.mode}: held-out AUC {best['roc_auc']:.3f}, accuracy {best['accuracy']:.3f} before the "
            "export sets the threshold"
        )

    def export(self, project: Project, origin: Origin) -> str:
        """Write one ONNX graph with logits, embedding and class activation map."""
        from medloop.bundle.export.image import describe_export, export_images

        work, section = project.work, project.recipe.export
        meta = export_images(
            work / "trained", work / "prepared", work / "splits.parquet", section, origin=origin, folder=work / "bundle"
        )
        return describe_export(meta)

    def files_of(self, project: Project, cases: Any) -> FileBytes | None:
        """Return the bytes of the cases' files."""
        return FileBytes(project.root, cases)

    def baseline(self, project: Project, case_ids: Sequence[str]) -> BaselineModel | None:
        """Return the predictions of a head on an untrained network."""
        from medloop.evaluate.figures.baselines import BaselineModel
        from medloop.train.images.untrained import untrained_probabilities

        return BaselineModel(
            name="untrained network",
            description="A ResNet-18 with random weights and a linear head that was fitted on the same training cases.",
            probabilities=untrained_probabilities(project.work / "prepared", project.work / "splits.parquet", case_ids),
        )

    def starting_weights(self, project: Project) -> dict[str, str]:
        """Return a hash of each set of weights that a training may start from, by its name in the recipe."""
        return starting_weights(project)

    def decision_cases(self, table: pd.DataFrame, recipe: Recipe) -> DecisionCases:
        """Return the cases that the export will take, by the parts of the split and the mode of training."""
        part = table["part"]
        if (part == "calib").any():
            return DecisionCases(rows=table[part == "calib"], name="calib cases")
        if recipe.train.mode == "head":
            rows = table[part.isin(("train", "val"))]
            return DecisionCases(rows=rows, name="out-of-fold training and validation cases")
        if recipe.train.cross_validate:
            return DecisionCases(rows=table[part == "train"], name="out-of-fold training cases")
        if (part == "val").any():
            return DecisionCases(rows=table[part == "val"], name="validation cases", choose_epoch=True)
        first = table[(part == "train") & (table["fold"] == 0)]
        return DecisionCases(rows=first, name="cases of the first fold", choose_epoch=True)

    def curl_arguments(self, case: Mapping[str, Any], folder: str) -> str:
        """Return the file as a form field."""
        return f"-F file=@{folder}/{case['path']}"


def check_export(project: Project, name: str, params: Mapping[str, Any]) -> None:
    """Refuse a network that could be trained but not exported, before it is trained."""
    from medloop.bundle.export.trial import PARITY, try_export
    from medloop.prepare.prepared_images import read_prepared_images

    # An untrained network shows whether the graph is right, not to the last digit how right.
    bound = max(project.recipe.export.parity or PARITY, PARITY)
    shape = read_prepared_images(project.work / "prepared").preparer.shape
    try_export(name, params, shape=shape, bound=bound, cache=project.work / "cache")


def _with_backbone(project: Project, name: str) -> ModelSection:
    """Return the recipe's model with another backbone of timm, or another image model of MODELS."""
    from medloop.models import MODELS, hyperparameters

    own = project.recipe.model
    choice, _, weights = name.partition("=")
    if choice in MODELS and choice != "backbone":
        return own if choice == own.name else ModelSection(name=choice)
    params = own.params if own.name == "backbone" else {}
    weights = weights or str(params.get("weights", "none"))
    is_other = choice != hyperparameters("backbone", params)["backbone"]
    if is_other and "=" not in name and weights not in ("none", "imagenet"):
        raise UserError(
            f"model.weights is {weights}, which belongs to another backbone than {choice}.",
            f"State its weights: `medloop compare {choice}=imagenet`, or =none, or =path/of/its.safetensors.",
        )
    content = {**params, "name": "backbone", "backbone": choice, "weights": weights}
    model = ModelSection.model_validate(content)
    return with_weights(project, model, CHAMPION) if weights == CHAMPION else model
