"""The stage `export` for images: ONNX with parity, in int8 where it decides as well, then the decision rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

from medloop.bundle import files
from medloop.bundle.calibrate import Fitted, fit_decision, fit_wide_outliers, sample
from medloop.bundle.decide import FloatArray, IntArray, Outliers, choose
from medloop.bundle.export.cases import ExportCases, read_export_cases
from medloop.bundle.export.fold_figures import SERVED_RULE, FoldScores, served_figures
from medloop.bundle.export.int8 import Agreement, compare, quantise
from medloop.bundle.export.network_onnx import check_image_parity, image_graph, run_images, run_views, with_head
from medloop.bundle.export.table import REFERENCE_CASES, Origin, origin_fields
from medloop.bundle.inputs import MIN_COLOUR_LIMIT, MIN_CONTRAST, colour_of, model_input
from medloop.bundle.operating_point import describe_threshold
from medloop.bundle.patients import combine_slices
from medloop.bundle.session import ONNX_ERRORS
from medloop.errors import UserError
from medloop.metrics.view import softmax
from medloop.models import find_model, without_weights
from medloop.models.augment import Views
from medloop.models.backbone import map_shift
from medloop.models.head import Head, HeadLearner
from medloop.prepare.prepared_images import PreparedImages, read_prepared_images
from medloop.progress import track
from medloop.recipe import ExportSection
from medloop.storage import atomic_folder, read_json, write_json

PARITY = 1e-4
PARITY_IMAGES = 16
RANGE_IMAGES = 256
MAX_SPREAD_IMAGES = 2000
COLOUR_MARGIN = 1.5
QUANTISATION_ERRORS: tuple[type[Exception], ...] = (*ONNX_ERRORS, NotImplementedError, ValueError)


@dataclass(frozen=True, kw_only=True)
class Served:
    """A graph with its scores: of all training cases in head mode, else of a sample, and of the held-out cases.

    Decisions are fitted on `logits`; `own_logits` are those of the graph itself, where no head replaces it.
    """

    graph: bytes
    head: Head | None
    seen: FloatArray
    held: FloatArray
    own_logits: FloatArray
    logits: FloatArray
    scored: FoldScores


@dataclass(frozen=True, kw_only=True)
class Exporting:
    """Everything that both precisions share."""

    pictures: PreparedImages
    cases: ExportCases
    section: ExportSection
    model: Mapping[str, Any]

    @property
    def rows_to_see(self) -> IntArray:
        """The training images to run: all for a head, a sample for the spread of the embeddings."""
        if self.model["mode"] == "head":
            return self.cases.train
        return self.cases.train[sample(len(self.cases.train), size=MAX_SPREAD_IMAGES, seed=self.model["seed"])]

    def decision(self, logits: FloatArray) -> Fitted:
        """Fit the decision rule of the recipe on logits of the held-out cases."""
        cases, task = self.cases, self.pictures.task
        return fit_decision(logits, cases.held_y, self.section, task, source=cases.source, groups=cases.held_groups)

    def decided(self, logits: FloatArray, fitted: Fitted) -> tuple[FloatArray, IntArray]:
        """Return probabilities and decisions for the held-out cases, or for their patients."""
        is_positive = np.isin(self.pictures.task["classes"], self.pictures.task["positive"])
        shares = softmax(logits, fitted.meta["calibration"]["temperature"])
        if self.section.per == "patient":
            patients, rule = self.cases.held_groups, self.section.combine
            shares = combine_slices(shares, patients, is_positive=is_positive, rule=rule)
        return shares, choose(shares, is_positive, fitted.meta["threshold"]["value"])


def export_images(
    trained: Path, prepared: Path, splits: Path, section: ExportSection, *, origin: Origin, folder: Path
) -> dict[str, Any]:
    """Write the bundle, and return its description."""
    model = read_json(trained / "model.json")
    pictures = read_prepared_images(prepared)
    cases = read_export_cases(trained, splits, pictures, by_patient=section.per == "patient")
    job = Exporting(pictures=pictures, cases=cases, section=section, model=model)
    graph, parity, shift = _exact_graph(trained, job)
    served, precision = _choose_precision(graph, job)
    fitted = job.decision(served.logits)
    quantile = section.outlier_quantile
    outliers = fit_wide_outliers(_spread(served, job), served.held, quantile=quantile, seed=model["seed"])
    meta = {
        "format": files.FORMAT,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **origin_fields(
            origin,
            temperature_fitted=section.calibrate,
            head_fitted_on=len(cases.train) if model["mode"] == "head" else None,
        ),
        **pictures.task,
        "model": model,
        "preparer": {"kind": "image", **pictures.preparer.to_json()},
        "checks": {"contrast": MIN_CONTRAST, "colour": _colour_limit(job)},
        "decide": {"per": section.per, "rule": section.combine},
        **fitted.meta,
        "outliers": {
            "limit": outliers.limit,
            "rest": outliers.rest,
            "quantile": section.outlier_quantile,
            "distance": "Mahalanobis, with one variance outside the principal components",
        },
        "parity": parity,
        "map_shift": list(shift),
        "precision": precision,
        "n_train": len(cases.train),
        "cross_validation": served_figures(served.scored, section, pictures.task),
        "cross_validation_rule": SERVED_RULE,
        "environment": read_json(trained / "environment.json"),
    }
    _write(folder, trained, meta, served=served, outliers=outliers, probabilities=fitted.probabilities)
    return meta


def describe_export(meta: Mapping[str, Any]) -> str:
    """Return the line that the command prints."""
    precision = meta["precision"]
    why = f" ({precision['reason']})" if precision["reason"] else ""
    return (
        f"ONNX differs by {meta['parity']:.1g}; precision {precision['used']}{why}; "
        f"{describe_threshold(meta['threshold'])}, fitted on {meta['calibration']['fitted_on']}"
    )


def _exact_graph(trained: Path, job: Exporting) -> tuple[bytes, float, tuple[float, float]]:
    height, width, channels = job.pictures.preparer.shape
    # The trained weights are loaded next, so no others are downloaded.
    make = find_model(job.model["name"]).build(**without_weights(job.model["name"], job.model["params"]))
    classifier = make(classes=len(job.cases.classes), channels=channels, size=(height, width), root=trained)
    classifier.load_state_dict(load_file(trained / "weights.safetensors"))
    chosen = job.cases.train[sample(len(job.cases.train), size=PARITY_IMAGES, seed=job.model["seed"])]
    some = np.asarray(job.pictures.images[chosen])
    graph = image_graph(classifier, some)
    parity = check_image_parity(classifier, graph, some, bound=job.section.parity or PARITY)
    return graph, parity, map_shift(classifier, torch.from_numpy(model_input(some)["image"]))


def _choose_precision(graph: bytes, job: Exporting) -> tuple[Served, dict[str, Any]]:
    """Return the int8 graph where its decisions agree with the fp32 graph, or where the recipe requires it."""
    exact = _serve(graph, job, what="features, fp32")
    wanted = job.section.precision
    if wanted == "fp32":
        return exact, {"used": "fp32", "reason": "set by export.precision"}
    chosen = job.cases.train[sample(len(job.cases.train), size=RANGE_IMAGES, seed=job.model["seed"])]
    try:
        small = _serve(quantise(graph, job.pictures.images[chosen]), job, what="features, int8")
    except QUANTISATION_ERRORS as error:
        # The quantiser of ONNX Runtime does not support every operation of every backbone.
        backbone = job.model["params"].get("backbone", job.model["name"])
        why = f"ONNX Runtime cannot run {backbone} in int8 ({type(error).__name__})"
        if wanted == "int8":
            raise UserError(f"{why}.", "Set export.precision: auto.") from error
        return exact, {"used": "fp32", "reason": why}
    agreement = _agreement(exact, small, job)
    figures = {"decisions_agree": agreement.decisions, "auc_loss": agreement.auc_loss, "n": agreement.n}
    measured = {name: value if np.isfinite(value) else None for name, value in figures.items()}
    if wanted == "auto" and agreement.against:
        return exact, {"used": "fp32", "reason": agreement.against, **measured}
    return small, {"used": "int8", "reason": agreement.against or "", **measured}


def _serve(graph: bytes, job: Exporting, *, what: str) -> Served:
    """Run the graph, in head mode with a head fitted on its own features."""
    if job.model["mode"] == "head":
        return _serve_head(graph, job, what=what)
    cases, images = job.cases, job.pictures.images
    _, seen = run_images(graph, images, job.rows_to_see, what=what)
    own_logits, held = run_images(graph, images, cases.held, what=f"{what}, held out")
    logits = cases.held_logits if cases.source.refitted else own_logits
    assert cases.scored is not None  # noqa: S101 - fine-tuning always holds cases out
    return Served(
        graph=graph, head=None, seen=seen, held=held, own_logits=own_logits, logits=logits, scored=cases.scored
    )


def _serve_head(graph: bytes, job: Exporting, *, what: str) -> Served:
    """Fit the head to serve on all cases, and one per fold for the out-of-fold scores."""
    cases, images = job.cases, job.pictures.images
    _, seen = run_images(graph, images, job.rows_to_see, what=what)
    views = [seen, *run_views(graph, images, cases.train, Views.from_json(job.model["views"]), what=what)]
    head = _fit(job, views, cases.train_y)
    scored = FoldScores(
        logits=_out_of_fold(job, views), y=cases.train_y, fold=cases.train_fold, groups=cases.train_groups
    )
    if cases.source.refitted:
        held, logits = seen, scored.logits
    else:
        _, held = run_images(graph, images, cases.held, what=f"{what}, held out")
        logits = head.logits(held)
    return Served(
        graph=with_head(graph, head), head=head, seen=seen, held=held, own_logits=logits, logits=logits, scored=scored
    )


def _fit(job: Exporting, views: Sequence[FloatArray], y: IntArray) -> Head:
    """Fit the head again with the strength from the training, on the features of this graph."""
    return HeadLearner(views, y, balanced=job.model["balanced"]).fit(job.model["head_C"])


def _out_of_fold(job: Exporting, views: Sequence[FloatArray]) -> FloatArray:
    """Return the out-of-fold logits of the training cases, without augmentation."""
    cases = job.cases
    logits = np.empty((len(cases.train), len(cases.classes)))
    for fold in track(folds := np.unique(cases.train_fold), total=len(folds), what="fold heads"):
        inside = cases.train_fold == fold
        head = _fit(job, [view[~inside] for view in views], cases.train_y[~inside])
        logits[inside] = head.logits(views[0][inside])
    return logits


def _agreement(exact: Served, small: Served, job: Exporting) -> Agreement:
    """Compare both as they would be served, each with its own temperature and threshold."""
    fitted = [job.decision(one.logits) for one in (exact, small)]
    decisions = [job.decided(one.own_logits, fit) for one, fit in zip((exact, small), fitted, strict=True)]
    classes, positive = (tuple(job.pictures.task[name]) for name in ("classes", "positive"))
    return compare(fitted[0].y, *decisions, classes=classes, positive=positive)


def _spread(served: Served, job: Exporting) -> FloatArray:
    """Return embeddings of some training cases, leaving out the held-out ones unless there are no others."""
    others = ~np.isin(job.rows_to_see, job.cases.held)
    seen = served.seen[others] if others.any() else served.seen
    return seen[sample(len(seen), size=MAX_SPREAD_IMAGES, seed=job.model["seed"])]


def _colour_limit(job: Exporting) -> float:
    """Return how colourful an image may be: the upper quantile of the training images, with a margin."""
    if job.pictures.preparer.channels == 1:
        return MIN_COLOUR_LIMIT
    chosen = job.cases.train[sample(len(job.cases.train), size=MAX_SPREAD_IMAGES, seed=job.model["seed"])]
    found = [colour_of(np.asarray(job.pictures.images[row])) for row in chosen]
    return max(MIN_COLOUR_LIMIT, COLOUR_MARGIN * float(np.quantile(found, job.section.outlier_quantile)))


def _write(
    folder: Path,
    trained: Path,
    meta: Mapping[str, Any],
    *,
    served: Served,
    outliers: Outliers,
    probabilities: FloatArray,
) -> None:
    chosen = sample(len(served.held), size=REFERENCE_CASES, seed=meta["model"]["seed"])
    with atomic_folder(folder) as target:
        (target / files.MODEL).write_bytes(served.graph)
        write_json(target / files.META, meta)
        with (target / files.REFERENCE).open("wb") as file:
            np.savez_compressed(
                file,
                embedding=outliers.coordinates(served.held[chosen]).astype(np.float32),
                probabilities=probabilities[chosen],
                mean=outliers.mean,
                precision=outliers.precision,
                directions=np.asarray(outliers.directions),
            )
        _write_weights(trained / "weights.safetensors", served.head, target / files.WEIGHTS)
        files.seal(target)


def _write_weights(trained: Path, head: Head | None, path: Path) -> None:
    """Write the weights for a warm start, with the head that is served."""
    import torch

    state = load_file(trained)
    for name, values in {"head.weight": head.weight, "head.bias": head.bias}.items() if head else ():
        state[name] = torch.from_numpy(np.ascontiguousarray(values, np.float32))
    save_file(state, path)
