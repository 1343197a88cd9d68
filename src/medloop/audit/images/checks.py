"""The checks of a set of images: copies, leaks, shortcuts and doubtful labels."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from medloop.audit.findings import Audit, count_reasons, similar_patient_ids, small_classes, sort_by_severity
from medloop.audit.images import messages
from medloop.audit.images.features import ImageSummaries, ImageSummary, Read, summarize_images
from medloop.audit.images.gallery import Gallery
from medloop.audit.images.label_errors import Doubt, rank_label_errors
from medloop.audit.images.montage import Montage
from medloop.audit.images.near_duplicates import near_duplicates
from medloop.audit.images.probes import SHORTCUTS, Probe, Task, linear, measure_probe, out_of_fold, probe_task, trees
from medloop.audit.images.shortcuts import baseline_features, predict_labels, shortcut_probes
from medloop.case import Finding
from medloop.data import manifest
from medloop.data.groups import Groups, component_numbers, connected_groups, equal_groups
from medloop.errors import UserError
from medloop.recipe import AuditSection

# The AUC from which the labels that a simple model doubts are reported.
MIN_AUC_TO_DOUBT = 0.9


@dataclass(frozen=True, kw_only=True)
class Copies:
    """Groups of usable cases that show one image: with identical pixels, in another form, and both together.

    `changes` are the pairs of near copies with what was done to one of them ('' where it is upright).
    """

    exact: Groups
    near: Groups
    together: Groups
    changes: tuple[tuple[int, int, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Shortcuts:
    """The results of the probes, and the labels that a simple model doubts."""

    task: Task | None
    probes: tuple[Probe, ...] = ()
    doubts: tuple[Doubt, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ImageAudit(Audit):
    """The audit of images, with the results and montages for its page."""

    probes: tuple[Probe, ...]
    montages: tuple[Montage, ...]
    doubts: tuple[tuple[str, str, str, float], ...]
    # Whether cases are identified by their file names, which may contain patients' names, instead of their ids.
    names: bool = False


def audit_images(
    cases: pd.DataFrame,
    read: Read,
    section: AuditSection,
    *,
    scratch: Path,
    names: bool = False,
    known: Callable[[pd.DataFrame], Iterable[ImageSummary | str]] | None = None,
) -> ImageAudit:
    """Examine the manifest of images; `read` decodes a path, `known` returns summaries without it."""
    cases = messages.with_display_names(cases, names=names)
    table = manifest.usable(cases)
    if table.empty:
        reasons = count_reasons(cases["quarantined"])
        raise UserError(f"None of the {len(cases)} images can be read ({reasons}).", "Fix the files and ingest again.")
    summaries = summarize_images(table["path"].tolist(), read, scratch, known=known(table) if known else None)
    copies = find_copies(table, summaries)
    shortcuts = find_shortcuts(table, summaries, copies, section)
    findings = [
        *messages.quarantined(cases),
        *messages.unreadable(table, summaries),
        *_copy_findings(table, copies),
        *messages.patients_across_splits(table),
        *_shortcut_findings(table, shortcuts, section, names=names),
        *messages.outliers(table, summaries),
        *messages.wrong_extensions(table),
        *small_classes(table["label"]),
        *messages.no_patients(table),
        *similar_patient_ids(table, listed="display_name"),
        *messages.unchecked_copies(table),
    ]
    ids = table["case_id"].to_numpy(object)
    return ImageAudit(
        findings=sort_by_severity(findings),
        groups=tuple(tuple(str(ids[place]) for place in group) for group in copies.together),
        probes=shortcuts.probes,
        montages=tuple(_montages(Gallery(table, read, summaries), copies, shortcuts)),
        doubts=tuple(_doubts(table, shortcuts)),
        names=names,
        unchecked=messages.UNCHECKED,
    )


def find_copies(table: pd.DataFrame, summaries: ImageSummaries) -> Copies:
    """Find the cases that show the same image."""
    exact = equal_groups(table["pixel_sha256"])
    first = np.flatnonzero(~table["pixel_sha256"].duplicated().to_numpy(bool))
    readable = np.array([place for place in first if place not in summaries.broken], np.int64)
    found = near_duplicates(summaries, readable)
    patients = table["patient_id"].to_numpy(object)
    # Neighbouring slices of one patient are similar anyway, and stay together in every split.
    changes = [
        (a, b, change)
        for (a, b), change in zip(found.pairs.tolist(), found.changes(), strict=True)
        if patients[a] is None or patients[a] != patients[b]
    ]
    near = [(a, b) for a, b, _ in changes]
    return Copies(
        exact=exact,
        near=connected_groups(near, count=len(table)),
        together=connected_groups([*exact, *near], count=len(table)),
        changes=tuple(changes),
    )


def find_shortcuts(table: pd.DataFrame, summaries: ImageSummaries, copies: Copies, section: AuditSection) -> Shortcuts:
    """Run all probes, with the images of a patient in one fold and one image of each group of copies."""
    copied = {place for group in copies.together for place in group[1:]} | set(summaries.broken)
    single = np.array([place not in copied for place in range(len(table))])
    groups = component_numbers(equal_groups(table["patient_id"]), count=len(table))
    task = probe_task(table["label"].where(single), groups, max_cases=section.probe_cases)
    if task is None:
        return Shortcuts(task=None)
    histogram, deep = baseline_features(summaries, task)
    baselines = (
        measure_probe("histogram", out_of_fold(histogram, task, trees), task),
        measure_probe("untrained", out_of_fold(deep, task, linear), task),
    )
    doubts: tuple[Doubt, ...] = ()
    predicted = predict_labels(histogram, deep, task)
    if measure_probe("labels", predicted, task).macro.value >= MIN_AUC_TO_DOUBT:
        doubts = rank_label_errors(predicted, task.y)
    return Shortcuts(task=task, probes=(*shortcut_probes(table, summaries, task), *baselines), doubts=doubts)


def _copy_findings(table: pd.DataFrame, copies: Copies) -> Iterator[Finding]:
    yield from messages.exact_duplicates(table, copies.exact)
    yield from messages.two_labels(table, copies.exact)
    yield from messages.across_splits(table, copies.exact)
    yield from messages.near_duplicates(table, copies.near, copies.changes)
    # With their identical copies, which may be on the other side of the split.
    alike = {place for group in copies.near for place in group}
    widened = [group for group in copies.together if alike & set(group)]
    yield from messages.two_labels(table, widened, near=True)
    yield from messages.across_splits(table, widened, near=True)


def _shortcut_findings(
    table: pd.DataFrame, shortcuts: Shortcuts, section: AuditSection, *, names: bool
) -> Iterator[Finding]:
    task, probes = shortcuts.task, {probe.name: probe for probe in shortcuts.probes}
    if task is None:
        yield Finding(
            name="no_probes",
            severity="note",
            what="There are too few independent images to look for shortcuts: at least two classes need five each.",
            where=(),
            count=len(table),
            todo="Collect more images; until then shortcuts remain unknown.",
        )
        return
    for name in SHORTCUTS:
        if probes[name].fires(section.shortcut_auc):
            only_bytes = name == "metadata" and not probes["size_and_format"].fires(section.shortcut_auc)
            yield messages.shortcut(probes[name], table, task, only_bytes=only_bytes, names=names)
    yield from (messages.baseline(probes[name]) for name in ("histogram", "untrained"))
    yield from messages.label_doubts(table, task, shortcuts.doubts)


def _doubts(table: pd.DataFrame, shortcuts: Shortcuts) -> Iterator[tuple[str, str, str, float]]:
    task = shortcuts.task
    if task is not None:
        names = table["display_name"].to_numpy(object)
        for doubt in shortcuts.doubts:
            given, suggested = task.names[doubt.given], task.names[doubt.suggested]
            yield str(names[task.places[doubt.place]]), given, suggested, doubt.quality


def _montages(gallery: Gallery, copies: Copies, shortcuts: Shortcuts) -> Iterator[Montage]:
    yield from gallery.classes()
    yield from gallery.duplicates(copies.exact, kind="exact", caption="Identical pixels")
    yield from gallery.duplicates(copies.near, kind="near", caption="The same image in another form")
    yield from gallery.outliers()
    if shortcuts.task is not None:
        yield from gallery.doubts(shortcuts.task, shortcuts.doubts)
