"""The export stage for images: ONNX with parity, in 8 bits where these decide as well, then what decides."""

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
from medloop.bundle.decide import FloatArray, IntArray, Outliers, choose, softmax
from medloop.bundle.export import REFERENCE_CASES, Origin, origin_fields
from medloop.bundle.export_cases import ExportCases, read_export_cases
from medloop.bundle.export_int8 import Agreement, compare, quantise
from medloop.bundle.export_onnx import check_image_parity, image_graph, run_images, run_views, with_head
from medloop.bundle.fold_figures import SERVED_RULE, FoldScores, served_figures
from medloop.bundle.inputs import LEAST_COLOUR, LEAST_CONTRAST, colour_of, model_input
from medloop.bundle.operating_point import describe_threshold
from medloop.bundle.patients import combine_slices
from medloop.bundle.session import ONNX_ERRORS
from medloop.errors import UserError
from medloop.models import find_model
from medloop.models.augment import Views
from medloop.models.head import Head, HeadLearner
from medloop.models.sight import map_shift
from medloop.prepare.prepared_images import PreparedImages, read_prepared_images
from medloop.progress import track
from medloop.recipe import ExportSection
from medloop.storage import atomic_folder, read_json, write_json

PARITY = 1e-4
PARITY_PICTURES = 16
RANGE_PICTURES = 256
SPREAD_PICTURES = 2000
COLOUR_MARGIN = 1.5
UNQUANTISABLE: tuple[type[Exception], ...] = (*ONNX_ERRORS, NotImplementedError, ValueError)


@dataclass(frozen=True, kw_only=True)
class Served:
    """A graph with what it says of the cases: all of training in head mode, else a sample, and those held out.

    `logits` are what decisions are fitted on; `own_logits` are the graph's own where no head has replaced these.
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
    """All that both precisions share."""

    pictures: PreparedImages
    cases: ExportCases
    section: ExportSection
    model: Mapping[str, Any]

    @property
    def rows_to_see(self) -> IntArray:
        """The training pictures to run: a head needs all of them, a spread some."""
        if self.model["mode"] == "head":
            return self.cases.train
        return self.cases.train[sample(len(self.cases.train), most=SPREAD_PICTURES, seed=self.model["seed"])]

    def decision(self, logits: FloatArray) -> Fitted:
        """What the recipe's rules make of logits of the held-out cases."""
        cases, task = self.cases, self.pictures.task
        return fit_decision(logits, cases.held_y, self.section, task, source=cases.source, groups=cases.held_groups)

    def decided(self, logits: FloatArray, fitted: Fitted) -> tuple[FloatArray, IntArray]:
        """Probabilities and choices for the held-out cases, or for their patients."""
        is_positive = np.isin(self.pictures.task["classes"], self.pictures.task["positive"])
        shares = softmax(logits, fitted.meta["calibration"]["temperature"])
        if self.section.per == "patient":
            patients, rule = self.cases.held_groups, self.section.combine
            shares = combine_slices(shares, patients, is_positive=is_positive, rule=rule)
        return shares, choose(shares, is_positive, fitted.meta["threshold"]["value"])


def export_images(
    trained: Path, prepared: Path, splits: Path, section: ExportSection, *, origin: Origin, folder: Path
) -> dict[str, Any]:
    """Write the bundle; its description is returned."""
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
        "checks": {"contrast": LEAST_CONTRAST, "colour": _colour_limit(job)},
        "decide": {"per": section.per, "rule": section.combine},
        **fitted.meta,
        "outliers": {
            "limit": outliers.limit,
            "rest": outliers.rest,
            "quantile": section.outlier_quantile,
            "distance": "Mahalanobis along principal components and beside them",
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
    """What the command says of the bundle."""
    precision = meta["precision"]
    why = f" ({precision['reason']})" if precision["reason"] else ""
    return (
        f"ONNX differs by {meta['parity']:.1g}; serves {precision['used']}{why}; "
        f"{describe_threshold(meta['threshold'])}, fitted on {meta['calibration']['fitted_on']}"
    )


def _exact_graph(trained: Path, job: Exporting) -> tuple[bytes, float, tuple[float, float]]:
    height, width, channels = job.pictures.preparer.shape
    # The trained weights come next, so none are fetched.
    make = find_model(job.model["name"]).build(**{**job.model["params"], "weights": "none"})
    classifier = make(classes=len(job.cases.classes), channels=channels, size=(height, width), root=trained)
    classifier.load_state_dict(load_file(trained / "weights.safetensors"))
    chosen = job.cases.train[sample(len(job.cases.train), most=PARITY_PICTURES, seed=job.model["seed"])]
    some = np.asarray(job.pictures.images[chosen])
    graph = image_graph(classifier, some)
    parity = check_image_parity(classifier, graph, some, bound=job.section.parity or PARITY)
    return graph, parity, map_shift(classifier, torch.from_numpy(model_input(some)["image"]))


def _choose_precision(graph: bytes, job: Exporting) -> tuple[Served, dict[str, Any]]:
    """The 8-bit graph where it decides as the exact one does, or where the recipe wants it anyway."""
    exact = _serve(graph, job, what="features, fp32")
    wanted = job.section.precision
    if wanted == "fp32":
        return exact, {"used": "fp32", "reason": "the recipe asks for it (export.precision)"}
    chosen = job.cases.train[sample(len(job.cases.train), most=RANGE_PICTURES, seed=job.model["seed"])]
    try:
        small = _serve(quantise(graph, job.pictures.images[chosen]), job, what="features, int8")
    except UNQUANTISABLE as error:
        # Backbones are many, and the quantiser of onnxruntime does not know every step of all of them.
        why = f"onnxruntime cannot run {job.model['params']['backbone']} in int8 ({type(error).__name__})"
        if wanted == "int8":
            hint = "set export.precision: auto"
            raise UserError("export.precision: int8 needs a backbone that 8 bits suit", found=why, hint=hint) from error
        return exact, {"used": "fp32", "reason": why}
    agreement = _agreement(exact, small, job)
    figures = {"decisions_agree": agreement.decisions, "auc_loss": agreement.auc_loss, "n": agreement.n}
    measured = {name: value if np.isfinite(value) else None for name, value in figures.items()}
    if wanted == "auto" and agreement.against:
        return exact, {"used": "fp32", "reason": agreement.against, **measured}
    return small, {"used": "int8", "reason": agreement.against or "", **measured}


def _serve(graph: bytes, job: Exporting, *, what: str) -> Served:
    """Run the graph; in head mode with a head that was fitted on what it gives."""
    if job.model["mode"] == "head":
        return _serve_head(graph, job, what=what)
    cases, images = job.cases, job.pictures.images
    _, seen = run_images(graph, images, job.rows_to_see, what=what)
    own_logits, held = run_images(graph, images, cases.held, what=f"{what}, held out")
    logits = cases.held_logits if cases.source.refitted else own_logits
    assert cases.scored is not None  # noqa: S101 - a network's training held cases out
    return Served(
        graph=graph, head=None, seen=seen, held=held, own_logits=own_logits, logits=logits, scored=cases.scored
    )


def _serve_head(graph: bytes, job: Exporting, *, what: str) -> Served:
    """A head fitted on all cases to serve, and one a fold to say of each case what a head says that never saw it."""
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
    """The head that training chose, fitted again on the same views as this graph sees them."""
    return HeadLearner(views, y, balanced=job.model["balanced"]).fit(job.model["head_C"])


def _out_of_fold(job: Exporting, views: Sequence[FloatArray]) -> FloatArray:
    """For each fold, what a head says of its pictures as they are that learned from the other folds."""
    cases = job.cases
    logits = np.empty((len(cases.train), len(cases.classes)))
    for fold in track(folds := np.unique(cases.train_fold), total=len(folds), what="heads of the folds"):
        inside = cases.train_fold == fold
        head = _fit(job, [view[~inside] for view in views], cases.train_y[~inside])
        logits[inside] = head.logits(views[0][inside])
    return logits


def _agreement(exact: Served, small: Served, job: Exporting) -> Agreement:
    """Both as they would serve: each with the temperature and the threshold that the rule gives it."""
    fitted = [job.decision(one.logits) for one in (exact, small)]
    answers = [job.decided(one.own_logits, fit) for one, fit in zip((exact, small), fitted, strict=True)]
    classes, positive = (tuple(job.pictures.task[name]) for name in ("classes", "positive"))
    return compare(fitted[0].y, *answers, classes=classes, positive=positive)


def _spread(served: Served, job: Exporting) -> FloatArray:
    """What the graph sees of some training cases; the held-out ones among them only where there are no others."""
    others = ~np.isin(job.rows_to_see, job.cases.held)
    seen = served.seen[others] if others.any() else served.seen
    return seen[sample(len(seen), most=SPREAD_PICTURES, seed=job.model["seed"])]


def _colour_limit(job: Exporting) -> float:
    """How coloured a picture may be: as much as nearly all that were learned from, with a margin."""
    if job.pictures.preparer.channels == 1:
        return LEAST_COLOUR
    chosen = job.cases.train[sample(len(job.cases.train), most=SPREAD_PICTURES, seed=job.model["seed"])]
    found = [colour_of(np.asarray(job.pictures.images[row])) for row in chosen]
    return max(LEAST_COLOUR, COLOUR_MARGIN * float(np.quantile(found, job.section.outlier_quantile)))


def _write(
    folder: Path,
    trained: Path,
    meta: Mapping[str, Any],
    *,
    served: Served,
    outliers: Outliers,
    probabilities: FloatArray,
) -> None:
    chosen = sample(len(served.held), most=REFERENCE_CASES, seed=meta["model"]["seed"])
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
    """The weights for a warm start, with the head that serves."""
    import torch

    state = load_file(trained)
    for name, values in {"head.weight": head.weight, "head.bias": head.bias}.items() if head else ():
        state[name] = torch.from_numpy(np.ascontiguousarray(values, np.float32))
    save_file(state, path)
