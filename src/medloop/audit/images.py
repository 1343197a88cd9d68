"""What can be wrong with a set of images: copies, leaks, shortcuts and doubtful labels."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from medloop.audit import image_findings as say
from medloop.audit.features import Looks, Read, look_at_all
from medloop.audit.gallery import Gallery
from medloop.audit.groups import Groups, components, connected, equal_groups
from medloop.audit.label_errors import Doubt, rank_label_errors
from medloop.audit.montage import Montage
from medloop.audit.near_duplicates import near_duplicates
from medloop.audit.patient_ids import alike_patient_ids
from medloop.audit.probes import Probe, Task, linear, measure_probe, out_of_fold, probe_task, trees
from medloop.audit.result import Audit, by_severity, small_classes
from medloop.audit.shortcuts import baseline_features, guess_labels, shortcut_probes
from medloop.case import Finding
from medloop.data import manifest
from medloop.errors import UserError
from medloop.recipe import AuditSection

# Below this a simple model knows too little to doubt a label.
KNOWS_ENOUGH = 0.9


@dataclass(frozen=True, kw_only=True)
class Copies:
    """Places of the usable cases that show one picture: pixel by pixel, and in another form as well.

    Beside the groups stand the pairs of the second kind, and what was done to one of each ('' where it is upright).
    """

    exact: Groups
    near: Groups
    together: Groups
    changes: tuple[tuple[int, int, str], ...] = ()


@dataclass(frozen=True, kw_only=True)
class Shortcuts:
    """What the probes found, and the labels that a simple model doubts."""

    task: Task | None
    probes: tuple[Probe, ...] = ()
    doubts: tuple[Doubt, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ImageAudit(Audit):
    """The audit of images, with the figures and pictures of its page."""

    probes: tuple[Probe, ...]
    montages: tuple[Montage, ...]
    doubts: tuple[tuple[str, str, str, float], ...]
    # Whether cases are called by the names of their files, which may be those of patients, and not by their ids.
    names: bool = False


def audit_images(
    cases: pd.DataFrame, read: Read, section: AuditSection, *, scratch: Path, names: bool = False
) -> ImageAudit:
    """Examine the manifest of images; `read` gives the decoded pixels of a path and may be called from any thread."""
    cases = say.named(cases, names=names)
    table = manifest.usable(cases)
    if table.empty:
        raise UserError("at least one image must be readable", found="none", hint="see why each was set aside")
    looks = look_at_all(table["path"].tolist(), read, scratch)
    copies = find_copies(table, looks)
    shortcuts = find_shortcuts(table, looks, copies, section)
    findings = [
        *say.quarantined(cases),
        *say.unreadable(table, looks),
        *_copy_findings(table, copies),
        *say.patients_across_splits(table),
        *_shortcut_findings(table, shortcuts, section, names=names),
        *say.outliers(table, looks),
        *say.wrong_extensions(table),
        *small_classes(table["label"]),
        *say.no_patients(table),
        *alike_patient_ids(table, shown="shown"),
        *say.unchecked_copies(table),
    ]
    ids = table["case_id"].to_numpy(object)
    return ImageAudit(
        findings=by_severity(findings),
        groups=tuple(tuple(str(ids[place]) for place in group) for group in copies.together),
        probes=shortcuts.probes,
        montages=tuple(_montages(Gallery(table, read, looks), copies, shortcuts)),
        doubts=tuple(_doubts(table, shortcuts)),
        names=names,
        unchecked=say.UNCHECKED,
    )


def find_copies(table: pd.DataFrame, looks: Looks) -> Copies:
    """The same pictures among the cases."""
    exact = equal_groups(table["pixel_sha256"])
    first = np.flatnonzero(~table["pixel_sha256"].duplicated().to_numpy(bool))
    sound = np.array([place for place in first if place not in looks.broken], np.int64)
    found = near_duplicates(looks, sound)
    patients = table["patient_id"].to_numpy(object)
    # Neighbouring slices of one patient are alike by nature, and stay together anyway.
    changes = [
        (a, b, change)
        for (a, b), change in zip(found.pairs.tolist(), found.changes(), strict=True)
        if patients[a] is None or patients[a] != patients[b]
    ]
    near = [(a, b) for a, b, _ in changes]
    return Copies(
        exact=exact,
        near=components(near, count=len(table)),
        together=components([*exact, *near], count=len(table)),
        changes=tuple(changes),
    )


def find_shortcuts(table: pd.DataFrame, looks: Looks, copies: Copies, section: AuditSection) -> Shortcuts:
    """Run all probes, with patients and copies kept together."""
    # One file of each picture: copies would count a class's few pictures many times over.
    copied = {place for group in copies.together for place in group[1:]} | set(looks.broken)
    single = np.array([place not in copied for place in range(len(table))])
    groups = connected(equal_groups(table["patient_id"]), count=len(table))
    task = probe_task(table["label"].where(single), groups, most=section.probe_cases)
    if task is None:
        return Shortcuts(task=None)
    histogram, deep = baseline_features(looks, task)
    baselines = (
        measure_probe("histogram", out_of_fold(histogram, task, trees), task),
        measure_probe("untrained", out_of_fold(deep, task, linear), task),
    )
    doubts: tuple[Doubt, ...] = ()
    guess = guess_labels(histogram, deep, task)
    if measure_probe("guess", guess, task).macro.value >= KNOWS_ENOUGH:
        doubts = rank_label_errors(guess, task.y)
    return Shortcuts(task=task, probes=(*shortcut_probes(table, looks, task), *baselines), doubts=doubts)


def _copy_findings(table: pd.DataFrame, copies: Copies) -> Iterator[Finding]:
    yield from say.exact_duplicates(table, copies.exact)
    yield from say.two_labels(table, copies.exact)
    yield from say.across_splits(table, copies.exact)
    yield from say.near_duplicates(table, copies.near, copies.changes)
    # With the identical copies of each: one of those may be what lies on the other side.
    alike = {place for group in copies.near for place in group}
    widened = [group for group in copies.together if alike & set(group)]
    yield from say.two_labels(table, widened, near=True)
    yield from say.across_splits(table, widened, near=True)


def _shortcut_findings(
    table: pd.DataFrame, shortcuts: Shortcuts, section: AuditSection, *, names: bool
) -> Iterator[Finding]:
    task, probes = shortcuts.task, {probe.name: probe for probe in shortcuts.probes}
    if task is None:
        yield Finding(
            name="no_probes",
            severity="note",
            what="Too few independent images in at least two classes to look for shortcuts.",
            where=(),
            count=len(table),
            todo="Collect more; nothing can be said about shortcuts yet.",
        )
        return
    for name in ("metadata", "file_name", "border"):
        if probes[name].fires(section.shortcut_auc):
            only_bytes = name == "metadata" and not probes["size_and_format"].fires(section.shortcut_auc)
            yield say.alarm(probes[name], table, task, only_bytes=only_bytes, names=names)
    yield from (say.baseline(probes[name]) for name in ("histogram", "untrained"))
    yield from say.label_doubts(table, task, shortcuts.doubts)


def _doubts(table: pd.DataFrame, shortcuts: Shortcuts) -> Iterator[tuple[str, str, str, float]]:
    task = shortcuts.task
    if task is not None:
        shown = table["shown"].to_numpy(object)
        for doubt in shortcuts.doubts:
            given, suggested = task.names[doubt.given], task.names[doubt.suggested]
            yield str(shown[task.places[doubt.place]]), given, suggested, doubt.quality


def _montages(gallery: Gallery, copies: Copies, shortcuts: Shortcuts) -> Iterator[Montage]:
    yield from gallery.classes()
    yield from gallery.duplicates(copies.exact, kind="exact", caption="Identical pixels")
    yield from gallery.duplicates(copies.near, kind="near", caption="The same picture in another form")
    yield from gallery.oddities()
    if shortcuts.task is not None:
        yield from gallery.doubts(shortcuts.task, shortcuts.doubts)
