"""What the audit of images says, in words: one function a finding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from medloop.audit.features import COLOURED, Looks
from medloop.audit.label_errors import Doubt
from medloop.audit.probes import Probe, Task
from medloop.audit.result import SHOWN
from medloop.audit.shortcuts import optional, telling_words
from medloop.case import Finding
from medloop.prepare.examine import is_frame
from medloop.storage.names import local_path, visible

Groups = Sequence[Sequence[int]]

ENDINGS = {
    "png": {".png"},
    "jpeg": {".jpg", ".jpeg", ".jpe", ".jfif"},
    "bmp": {".bmp", ".dib"},
    "tiff": {".tif", ".tiff"},
    "dicom": {".dcm", ".dicom", ".ima", ""},
}
FEW_OUTLIERS, BLANK = 0.2, 2.0
PLAIN_COPY = "compressed again, moved by a pixel or two, in another contrast or size, or drawn upon"
COPIES_LOOKED_FOR = (
    "Looked for: identical pixels, and copies that were compressed again, resized, shifted by a pixel or two, changed "
    "in contrast, drawn upon, flipped, turned by 90, 180 or 270 degrees, or inverted."
)
UNCHECKED = ("cropped copies", "padded copies", "copies turned by any other angle")
COPIES_NOT_LOOKED_FOR = f"Not looked for: {', '.join(UNCHECKED)}."


def quarantined(cases: pd.DataFrame) -> Iterator[Finding]:
    """Files that ingest could not use."""
    aside = cases[cases["quarantined"].notna()]
    if len(aside):
        counts = ", ".join(f"{reason}: {n}" for reason, n in aside["quarantined"].value_counts().items())
        yield Finding(
            name="quarantined",
            severity="warning",
            what=f"{len(aside)} of {len(cases)} files are set aside ({counts}).",
            where=shown(aside, range(len(aside))),
            count=len(aside),
            todo="Mend them at the source and ingest again; they are used nowhere."
            + (" Which frames to take is said by `prepare.frame`." if "frames" in counts else ""),
        )


def unreadable(table: pd.DataFrame, looks: Looks) -> Iterator[Finding]:
    """Files that could be read at ingest and no longer can."""
    if looks.broken:
        reasons = ", ".join(sorted(set(looks.broken.values())))
        yield Finding(
            name="unreadable",
            severity="severe",
            what=f"{len(looks.broken)} images can no longer be read ({reasons}).",
            where=shown(table, looks.broken),
            count=len(looks.broken),
            todo="Were they changed since ingest? Ingest again.",
        )


def no_patients(table: pd.DataFrame) -> Iterator[Finding]:
    """No patient-level claim without patients."""
    missing = table["patient_id"].isna()
    if missing.all():
        yield Finding(
            name="no_patients",
            severity="note",
            what="Nothing says which images are of one patient: no patient-level claim is possible. Images of one "
            "patient may lie on both sides of a split, which makes every figure look better than it is.",
            where=(),
            count=len(table),
            todo="Name the patient's column, a pattern of the file names, or use DICOM files that carry it.",
        )
    elif missing.any():
        yield Finding(
            name="some_patients_missing",
            severity="warning",
            what=f"{int(missing.sum())} of {len(table)} images have no patient; each counts as a patient of its own.",
            where=shown(table, np.flatnonzero(missing)),
            count=int(missing.sum()),
            todo="Complete the column or the pattern, or leave these images out.",
        )


def exact_duplicates(table: pd.DataFrame, groups: Groups) -> Iterator[Finding]:
    """Files that show the same picture, pixel by pixel."""
    if groups:
        files = sum(map(len, groups))
        yield Finding(
            name="exact_duplicates",
            severity="warning",
            what=f"{len(groups)} groups of files hold identical pixels: {files} files, {files - len(groups)} of them "
            f"redundant. The set has {len(table) - files + len(groups)} different images, not {len(table)}.",
            where=shown(table, [group[0] for group in groups]),
            count=len(groups),
            todo="They stay together in every split. Remove the copies; count the different images in any paper.",
        )


def near_duplicates(table: pd.DataFrame, groups: Groups, changes: Sequence[tuple[int, int, str]]) -> Iterator[Finding]:
    """Files that show the same picture stored again, moved, recoloured, drawn upon, flipped, turned or inverted."""
    if groups:
        yield Finding(
            name="near_duplicates",
            severity="warning",
            what=f"{len(groups)} groups of images are the same picture in another form: "
            f"{'; '.join(_kinds_of_copy(table, changes))}.",
            where=shown(table, [group[0] for group in groups]),
            count=len(groups),
            todo="They stay together in every split. Look at them below, and remove the copies.",
        )


def _kinds_of_copy(table: pd.DataFrame, changes: Sequence[tuple[int, int, str]]) -> Iterator[str]:
    """Count the pairs of each kind of change, each kind but the plain one with an example."""
    by_change: dict[str, list[tuple[int, int]]] = {}
    for first, second, change in changes:
        by_change.setdefault(change, []).append((first, second))
    for change, pairs in sorted(by_change.items()):
        example = " = ".join(PurePosixPath(one).name for one in table["shown"].iloc[list(pairs[0])])
        words = f"{change} ({example})" if change else PLAIN_COPY
        yield f"{len(pairs)} {'pair' if len(pairs) == 1 else 'pairs'} {words}"


def unchecked_copies(table: pd.DataFrame) -> Iterator[Finding]:
    """Yield the kinds of copies that nobody looked for."""
    yield Finding(
        name="unchecked_copies",
        severity="note",
        what=f"{COPIES_LOOKED_FOR} {COPIES_NOT_LOOKED_FOR}",
        where=(),
        count=len(table),
        todo="If the images passed through an augmentation or a cropping tool, split by patient or by original.",
    )


def two_labels(table: pd.DataFrame, groups: Groups, *, near: bool = False) -> Iterator[Finding]:
    """One picture that is called two things."""
    labels = table["label"].to_numpy(object)
    mixed = [group for group in groups if len({labels[place] for place in group}) > 1]
    if mixed:
        kind = "near-identical" if near else "identical"
        yield Finding(
            name="near_duplicate_two_labels" if near else "two_labels",
            severity="severe",
            what=f"{len(mixed)} {kind} pictures carry two labels: " + "; ".join(_members(table, mixed[:3])) + ".",
            where=shown(table, [place for group in mixed for place in group]),
            count=len(mixed),
            todo="One of the labels is wrong: have them read again, or remove both.",
        )


def across_splits(table: pd.DataFrame, groups: Groups, *, near: bool = False) -> Iterator[Finding]:
    """One picture on both sides of the official split."""
    given = optional(table, "given").to_numpy(object)
    torn = [group for group in groups if len({given[place] for place in group if isinstance(given[place], str)}) > 1]
    if torn:
        kind = "near-identical" if near else "identical"
        yield Finding(
            name="near_duplicates_across_splits" if near else "duplicates_across_splits",
            severity="severe",
            what=f"{len(torn)} groups of {kind} pictures lie on both sides of the given split: a model is tested on "
            "pictures that it was trained on.",
            where=shown(table, [place for group in torn for place in group]),
            count=len(torn),
            todo="Accept it by name if the split is repaired (the training copies leave), or split anew.",
        )


def patients_across_splits(table: pd.DataFrame) -> Iterator[Finding]:
    """One patient on both sides of the official split."""
    given = optional(table, "given")
    known = table.assign(given=given.where(given != ""))
    known = known[known["patient_id"].notna() & known["given"].notna()]
    sides = known.groupby("patient_id")["given"].nunique() if len(known) else pd.Series(dtype=int)
    torn = sorted(sides.index[sides > 1])
    if torn:
        some = known[known["patient_id"].isin(torn)]
        yield Finding(
            name="patients_across_splits",
            severity="severe",
            what=f"{len(torn)} patients have images on both sides of the given split ({len(some)} images).",
            where=shown(some, range(len(some))),
            count=len(torn),
            todo="Accept it by name if the split is repaired (the training copies leave), or split anew.",
        )


def wrong_extensions(table: pd.DataFrame) -> Iterator[Finding]:
    """File names that promise another format than the content has."""
    formats = optional(table, "format").to_numpy(object)
    endings = [PurePosixPath(path).suffix.lower() for path in table["path"]]
    wrong = [
        n
        for n, ending in enumerate(endings)
        if formats[n] in ENDINGS and ending not in ENDINGS[formats[n]] and not is_frame(table["path"].iloc[n])
    ]
    if wrong:
        kinds = ", ".join(sorted({f"{formats[n].upper()} named {endings[n] or 'without an ending'}" for n in wrong}))
        yield Finding(
            name="wrong_extension",
            severity="warning",
            what=f"{len(wrong)} files are not what their name says ({kinds}).",
            where=shown(table, wrong),
            count=len(wrong),
            todo="medloop reads them by their content; rename them for other programs. Do they come from elsewhere?",
        )


def outliers(table: pd.DataFrame, looks: Looks) -> Iterator[Finding]:
    """Pictures that carry something which most of the others do not."""
    for name, found, says in (
        ("colour_outliers", _rare(looks.coloured > COLOURED), "have colour among grey ones: a stamp or drawing?"),
        ("grey_outliers", _rare(looks.coloured <= COLOURED), "are grey among coloured ones"),
        ("corner_marks", _rare(looks.marked), "carry a bright patch in a corner"),
        ("blank_images", looks.spread < BLANK, "show next to nothing: one even grey"),
    ):
        places = np.flatnonzero(found)
        if len(places):
            counts = table["label"].iloc[places].value_counts()
            yield Finding(
                name=name,
                severity="warning",
                what=f"{len(places)} images {says} ({', '.join(f'{label}: {n}' for label, n in counts.items())}).",
                where=shown(table, places),
                count=len(places),
                todo="Look at them below. A mark that goes with one class is learned instead of the disease.",
            )


def _rare(found: NDArray[np.bool_]) -> NDArray[np.bool_]:
    return found if found.mean() <= FEW_OUTLIERS else np.zeros_like(found)


def label_doubts(table: pd.DataFrame, task: Task, doubts: Sequence[Doubt]) -> Iterator[Finding]:
    """Cases that look like another class than the one they are given."""
    if doubts:
        yield Finding(
            name="label_errors",
            severity="warning",
            what=f"{len(doubts)} of {len(task.y)} images look more like another class to a simple model. Some labels "
            "among them may be wrong; many will be right, since the model is crude.",
            where=shown(table, task.places[[doubt.place for doubt in doubts]]),
            count=len(doubts),
            todo="Have the first of the list read again by someone who does not see the label.",
        )


def alarm(probe: Probe, table: pd.DataFrame, task: Task, *, only_bytes: bool = False, names: bool = False) -> Finding:
    """A probe that found a way around the disease."""
    what, todo = _ALARM_WORDS[probe.name]
    if probe.name == "file_name":
        words = [f"'{visible(word)}' with {label}" for word, label in telling_words(table["path"], table["label"])]
        said = ", ".join(words) if names else f"{len(words)} (`show_names: true` in config.yaml shows them)"
        what += f" Words that go with one class: {said}." if words else ""
    if only_bytes:
        what = (
            "Only the length of the compressed files tells the classes apart. Pictures of different things differ "
            "in it honestly; so do files that were compressed differently."
        )
    return Finding(
        name=f"{probe.name}_shortcut",
        severity="warning" if only_bytes else "severe",
        what=f"{what} {figures_of(probe)}",
        where=tuple(label for label, _ in sorted(probe.by_class.items(), key=lambda item: -item[1].value)),
        count=len(task.y),
        todo=todo,
    )


_ACCEPT = "if the difference is honest, accept this finding by name in audit.accept: it then stays in the report."
_ALARM_WORDS = {
    "metadata": (
        (
            "The label can be told from the file's facts alone (size, length, mode, format), without looking at the "
            "picture: the classes come from different sources, and a model may learn the source."
        ),
        f"Get all classes from the same source and export; {_ACCEPT}",
    ),
    "file_name": (
        "The file's name gives the label away.",
        (
            "Rename the files before anyone reads them blindly. Models never see names, but the names show that the "
            f"classes were gathered separately; {_ACCEPT}"
        ),
    ),
    "border": (
        (
            "The label can be told from the edges and corners of the picture alone, where no disease is: a marker, a "
            "window, a frame or a cut goes with the class."
        ),
        (
            "Look at the class montages. Crop, or export all classes alike; where the classes are different body parts "
            f"or views the edges differ honestly, and {_ACCEPT}"
        ),
    ),
}


def baseline(probe: Probe, *, near: float = 0.95) -> Finding:
    """What can be had without learning anything about the disease."""
    kind = {
        "histogram": "From the share of each grey level alone, wherever it lies in the picture,",
        "untrained": "From the features of a network that was never trained,",
    }[probe.name]
    label, best = probe.best
    meaning = (
        f" So a high figure for '{label}' on this set proves little: it is had without learning anything about the "
        "disease. A trained model must be compared with this figure, not with 0.5."
        if best.value >= near
        else " A trained model is worth its effort only where it does clearly better."
    )
    return Finding(
        name=f"baseline_{probe.name}",
        severity="note",
        what=f"{kind} the classes are told apart like this: {figures_of(probe)}{meaning}",
        where=tuple(probe.by_class),
        count=probe.cases,
        todo="Report it beside the figures of the trained model.",
    )


def figures_of(probe: Probe) -> str:
    """AUC class by class, with the interval."""
    classes = "; ".join(
        f"{label} {one.value:.2f} [{one.lower:.2f}, {one.upper:.2f}]" for label, one in probe.by_class.items()
    )
    return f"AUC, each class against the rest: {classes} ({probe.cases} cases in {probe.groups} independent groups)."


def named(cases: pd.DataFrame, *, names: bool) -> pd.DataFrame:
    """Return the cases with what findings and pages call them: their ids, or their files where names may be shown."""
    paths = [visible(local_path(path)) for path in cases["path"]] if names else cases["case_id"]
    return cases.assign(shown=paths)


def shown(table: pd.DataFrame, places: object) -> tuple[str, ...]:
    """Where to look: the first of the cases at these places."""
    chosen = list(places)[:SHOWN]  # type: ignore[call-overload]
    return tuple(str(one) for one in table["shown"].iloc[chosen])


def _members(table: pd.DataFrame, groups: Groups) -> Iterator[str]:
    for group in groups:
        rows = table.iloc[list(group)]
        yield " = ".join(f"{PurePosixPath(p).name} ({n})" for p, n in zip(rows["shown"], rows["label"], strict=True))
