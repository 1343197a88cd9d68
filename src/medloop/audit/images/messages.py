"""The findings of the audit of images: one function for each kind."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medloop.audit.findings import MAX_LISTED, count_reasons
from medloop.audit.images.features import COLOURED, ImageSummaries
from medloop.audit.images.label_errors import Doubt
from medloop.audit.images.probes import Probe, Task
from medloop.audit.images.shortcuts import class_words, column_or_blank
from medloop.case import Finding
from medloop.decode.examine import is_frame
from medloop.storage.names import local_path, visible
from medloop.wording import plural

Groups = Sequence[Sequence[int]]

EXTENSIONS = {
    "png": {".png"},
    "jpeg": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "bmp": {".bmp", ".dib"},
    "tiff": {".tif", ".tiff"},
    "dicom": {".dcm", ".dicom", ".ima", ""},
}
MAX_OUTLIER_SHARE, MAX_BLANK_SPREAD = 0.2, 2.0
# The AUC from which a baseline leaves little for a trained model to show.
HIGH_AUC = 0.95
PLAIN_COPY = "recompressed, shifted by a pixel or two, with other contrast or size, or annotated"
UNCHECKED = ("cropped copies", "padded copies", "copies rotated by other angles")
COPIES_CHECKED = (
    "The audit looks for identical pixels, and for copies that were recompressed, resized, shifted by a pixel or two, "
    "changed in contrast, annotated, flipped, rotated by 90, 180 or 270 degrees, or inverted. It does not look for "
    f"{', '.join(UNCHECKED[:-1])} or {UNCHECKED[-1]}."
)
REPAIRED_SPLIT = (
    "Accept this finding by name if the split is repaired (copies are removed from training), or make a new split."
)


def quarantined(cases: pd.DataFrame) -> Iterator[Finding]:
    """Yield a finding for the files that could not be ingested."""
    aside = cases[cases["quarantined"].notna()]
    if len(aside):
        reasons = count_reasons(aside["quarantined"])
        yield Finding(
            name="quarantined",
            severity="warning",
            what=f"Set aside: {len(aside)} of {len(cases)} files ({reasons}).",
            where=display_names(aside, range(len(aside))),
            count=len(aside),
            todo="Fix them at the source and ingest again; until then they are not used."
            + (" `prepare.frame` selects the frames to use." if "frames" in reasons else ""),
        )


def unreadable(table: pd.DataFrame, summaries: ImageSummaries) -> Iterator[Finding]:
    """Yield a finding for the files that could be read at ingest but not any more."""
    if summaries.broken:
        reasons = "; ".join(sorted(set(summaries.broken.values())))
        yield Finding(
            name="unreadable",
            severity="severe",
            what=f"No longer readable: {plural(len(summaries.broken), 'image')} ({reasons}).",
            where=display_names(table, summaries.broken),
            count=len(summaries.broken),
            todo="If the files were changed since they were ingested, ingest them again.",
        )


def no_patients(table: pd.DataFrame) -> Iterator[Finding]:
    """Yield a finding where patients are unknown."""
    missing = table["patient_id"].isna()
    if missing.all():
        yield Finding(
            name="no_patients",
            severity="note",
            what="The patients are unknown, so no claim can be made about new patients. Images of one patient may be "
            "on both sides of a split, which makes every metric look better than it is.",
            where=(),
            count=len(table),
            todo="Name the patient column or a pattern of the file names, or use DICOM files with patient ids.",
        )
    elif missing.any():
        yield Finding(
            name="some_patients_missing",
            severity="warning",
            what=f"Patient unknown for {int(missing.sum())} of {len(table)} images; each counts as a separate patient.",
            where=display_names(table, np.flatnonzero(missing)),
            count=int(missing.sum()),
            todo="Complete the patient column or the pattern, or exclude these images.",
        )


def exact_duplicates(table: pd.DataFrame, groups: Groups) -> Iterator[Finding]:
    """Yield a finding for files with identical pixels."""
    if groups:
        files = sum(map(len, groups))
        redundant = files - len(groups)
        yield Finding(
            name="exact_duplicates",
            severity="warning",
            what=f"Identical pixels in {plural(len(groups), 'group')} of files: {files} files, {redundant} of them "
            f"redundant. The set has {len(table) - redundant} distinct images, not {len(table)}.",
            where=display_names(table, [group[0] for group in groups]),
            count=len(groups),
            todo="They stay together in every split. Remove the copies, and report the number of distinct images.",
        )


def near_duplicates(table: pd.DataFrame, groups: Groups, changes: Sequence[tuple[int, int, str]]) -> Iterator[Finding]:
    """Yield a finding for files that show one image in several forms."""
    if groups:
        yield Finding(
            name="near_duplicates",
            severity="warning",
            what=f"The same image in another form in {plural(len(groups), 'group')} of files: "
            f"{'; '.join(_kinds_of_copies(table, changes))}.",
            where=display_names(table, [group[0] for group in groups]),
            count=len(groups),
            todo="They stay together in every split. Review them on the page and remove the copies.",
        )


def _kinds_of_copies(table: pd.DataFrame, changes: Sequence[tuple[int, int, str]]) -> Iterator[str]:
    """Yield the number of pairs of each kind of change, with an example of all but the plain kind."""
    by_change: dict[str, list[tuple[int, int]]] = {}
    for first, second, change in changes:
        by_change.setdefault(change, []).append((first, second))
    for change, pairs in sorted(by_change.items()):
        example = " = ".join(PurePosixPath(one).name for one in table["display_name"].iloc[list(pairs[0])])
        kind = f"{change} ({example})" if change else PLAIN_COPY
        yield f"{plural(len(pairs), 'pair')} {kind}"


def unchecked_copies(table: pd.DataFrame) -> Iterator[Finding]:
    """Yield a finding that names the kinds of copies that the audit does not look for."""
    yield Finding(
        name="unchecked_copies",
        severity="note",
        what=COPIES_CHECKED,
        where=(),
        count=len(table),
        todo="If the images were augmented or cropped before, split them by patient or by original image.",
    )


def two_labels(table: pd.DataFrame, groups: Groups, *, near: bool = False) -> Iterator[Finding]:
    """Yield a finding for copies with different labels."""
    labels = table["label"].to_numpy(object)
    mixed = [group for group in groups if len({labels[place] for place in group}) > 1]
    if mixed:
        kind = "near-identical" if near else "identical"
        yield Finding(
            name="near_duplicate_two_labels" if near else "two_labels",
            severity="severe",
            what=f"Different labels for {plural(len(mixed), 'group')} of {kind} images: "
            f"{'; '.join(_labelled_members(table, mixed[:3]))}.",
            where=display_names(table, [place for group in mixed for place in group]),
            count=len(mixed),
            todo="One of the labels is wrong: have them reviewed, or remove the images.",
        )


def across_splits(table: pd.DataFrame, groups: Groups, *, near: bool = False) -> Iterator[Finding]:
    """Yield a finding for copies on both sides of the official split."""
    given = column_or_blank(table, "given").to_numpy(object)
    torn = [group for group in groups if len({given[place] for place in group if isinstance(given[place], str)}) > 1]
    if torn:
        kind = "near-identical" if near else "identical"
        yield Finding(
            name="near_duplicates_across_splits" if near else "duplicates_across_splits",
            severity="severe",
            what=f"Images on both sides of the official split: {plural(len(torn), 'group')} of {kind} images. A model "
            "would be tested on images that it was trained on.",
            where=display_names(table, [place for group in torn for place in group]),
            count=len(torn),
            todo=REPAIRED_SPLIT,
        )


def patients_across_splits(table: pd.DataFrame) -> Iterator[Finding]:
    """Yield a finding for patients on both sides of the official split."""
    given = column_or_blank(table, "given")
    known = table.assign(given=given.where(given != ""))
    known = known[known["patient_id"].notna() & known["given"].notna()]
    sides = known.groupby("patient_id")["given"].nunique() if len(known) else pd.Series(dtype=int)
    torn = sorted(sides.index[sides > 1])
    if torn:
        images = known[known["patient_id"].isin(torn)]
        yield Finding(
            name="patients_across_splits",
            severity="severe",
            what=f"Patients on both sides of the official split: {len(torn)}, with {len(images)} images.",
            where=display_names(images, range(len(images))),
            count=len(torn),
            todo=REPAIRED_SPLIT,
        )


def wrong_extensions(table: pd.DataFrame) -> Iterator[Finding]:
    """Yield a finding for files whose extension does not match their format."""
    formats = column_or_blank(table, "format").to_numpy(object)
    endings = [PurePosixPath(path).suffix.lower() for path in table["path"]]
    wrong = [
        n
        for n, ending in enumerate(endings)
        if formats[n] in EXTENSIONS and ending not in EXTENSIONS[formats[n]] and not is_frame(table["path"].iloc[n])
    ]
    if wrong:
        kinds = ", ".join(sorted({f"{formats[n].upper()} with {endings[n] or 'no extension'}" for n in wrong}))
        yield Finding(
            name="wrong_extension",
            severity="warning",
            what=f"{plural(len(wrong), 'file')} with an extension that does not match the format ({kinds}).",
            where=display_names(table, wrong),
            count=len(wrong),
            todo="medloop goes by the content, but other programs may not: rename the files, and check their origin.",
        )


def outliers(table: pd.DataFrame, summaries: ImageSummaries) -> Iterator[Finding]:
    """Yield a finding for each rare property of an image: colour, a mark, no content."""
    coloured, marked = summaries.coloured > COLOURED, summaries.marked
    for name, found, description in (
        ("colour_outliers", _if_rare(coloured), "in colour among greyscale images"),
        ("grey_outliers", _if_rare(~coloured), "in greyscale among colour images"),
        ("corner_marks", _if_rare(marked), "with a bright patch in a corner"),
        ("blank_images", summaries.spread < MAX_BLANK_SPREAD, "with almost no content"),
    ):
        places = np.flatnonzero(found)
        if len(places):
            counts = ", ".join(f"{label}: {n}" for label, n in table["label"].iloc[places].value_counts().items())
            yield Finding(
                name=name,
                severity="warning",
                what=f"{plural(len(places), 'image')} {description} ({counts}).",
                where=display_names(table, places),
                count=len(places),
                todo="Review them on the page. A model learns a mark that occurs in one class instead of the disease.",
            )


def _if_rare(found: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return found if found.mean() <= MAX_OUTLIER_SHARE else np.zeros_like(found)


def label_doubts(table: pd.DataFrame, task: Task, doubts: Sequence[Doubt]) -> Iterator[Finding]:
    """Yield a finding for the cases whose label may be wrong."""
    if doubts:
        yield Finding(
            name="label_errors",
            severity="warning",
            what=f"A simple model predicts another class for {len(doubts)} of {len(task.y)} images. Some of their "
            "labels may be wrong; many are correct, since the model is crude.",
            where=display_names(table, task.places[[doubt.place for doubt in doubts]]),
            count=len(doubts),
            todo="Have the first ones on the list reviewed by someone who does not see the label.",
        )


def shortcut(
    probe: Probe, table: pd.DataFrame, task: Task, *, only_bytes: bool = False, names: bool = False
) -> Finding:
    """Return the finding for a probe that predicts the class without seeing the disease."""
    what, todo = _SHORTCUT_TEXTS[probe.name]
    if probe.name == "file_name":
        words = [f"'{visible(word)}' in {label}" for word, label in class_words(table["path"], table["label"])]
        listed = ", ".join(words) if names else f"{len(words)} (`show_names: true` in config.yaml shows them)"
        what += f" Words that occur in one class only: {listed}." if words else ""
    if only_bytes:
        what = (
            "The length of the compressed files alone predicts the label. It may differ legitimately between images of "
            "different content, or because the files were compressed differently."
        )
    return Finding(
        name=f"{probe.name}_shortcut",
        severity="warning" if only_bytes else "severe",
        what=f"{what} {format_by_class(probe)}",
        where=tuple(label for label, _ in sorted(probe.by_class.items(), key=lambda item: -item[1].value)),
        count=len(task.y),
        todo=todo,
    )


_ACCEPT = "If the difference is legitimate, accept this finding by name in audit.accept; it then stays in the report."
_SHORTCUT_TEXTS = {
    "metadata": (
        (
            "File properties alone (size, length, mode, format) predict the label: the classes come from different "
            "sources, and a model may learn the source."
        ),
        f"Collect all classes from the same source with the same export. {_ACCEPT}",
    ),
    "file_name": (
        "The file name predicts the label.",
        (
            "Rename the files before a blinded reading. Models never see the names, but the names show that the "
            f"classes were collected separately. {_ACCEPT}"
        ),
    ),
    "border": (
        (
            "The edges and corners of the image alone predict the label, although they do not show the disease: a "
            "marker, a window setting, a frame or a crop goes with the class."
        ),
        (
            "ImageSummary at the class montages. Crop the images, or export all classes in the same way. Edges differ "
            f"legitimately between body parts or views. {_ACCEPT}"
        ),
    ),
}


def baseline(probe: Probe) -> Finding:
    """Return the finding that states what can be predicted without learning about the disease."""
    features = {
        "histogram": "The share of each grey level, without its position in the image,",
        "untrained": "The features of an untrained network",
    }[probe.name]
    label, best = probe.best
    meaning = (
        f"A high AUC for '{label}' on this data set is therefore weak evidence: compare a trained model with this "
        "baseline, not with 0.5."
        if best.value >= HIGH_AUC
        else "A trained model is worthwhile only if it is clearly better."
    )
    return Finding(
        name=f"baseline_{probe.name}",
        severity="note",
        what=f"{features} {'separates' if probe.name == 'histogram' else 'separate'} the classes with "
        f"{format_by_class(probe)} {meaning}",
        where=tuple(probe.by_class),
        count=probe.cases,
        todo="Report it as the baseline of the trained model.",
    )


def format_by_class(probe: Probe) -> str:
    """Return the AUC of each class with its interval."""
    classes = "; ".join(
        f"{label} {one.value:.2f} [{one.lower:.2f}, {one.upper:.2f}]" for label, one in probe.by_class.items()
    )
    return f"AUC (each class against the rest): {classes} ({probe.cases} cases in {probe.groups} independent groups)."


def with_display_names(cases: pd.DataFrame, *, names: bool) -> pd.DataFrame:
    """Return the cases with the names that findings and pages use: their ids, or their files if names may be shown."""
    paths = [visible(local_path(path)) for path in cases["path"]] if names else cases["case_id"]
    return cases.assign(display_name=paths)


def display_names(table: pd.DataFrame, places: object) -> tuple[str, ...]:
    """Return the names of the first cases at these places."""
    chosen = list(places)[:MAX_LISTED]  # type: ignore[call-overload]
    return tuple(str(one) for one in table["display_name"].iloc[chosen])


def _labelled_members(table: pd.DataFrame, groups: Groups) -> Iterator[str]:
    for group in groups:
        rows = table.iloc[list(group)]
        members = zip(rows["display_name"], rows["label"], strict=True)
        yield " = ".join(f"{PurePosixPath(name).name} ({label})" for name, label in members)
