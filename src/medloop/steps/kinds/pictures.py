"""Keep what audit and prepare need of each picture that ingest decodes, so that no image is decoded twice."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import medloop
from medloop.decode.kept import Derived, KeptRows, read_row
from medloop.decode.parallel import MIN_FILES_FOR_PROCESSES, chunks_of, each_chunk
from medloop.decode.pool import Sandbox
from medloop.decode.rule import DecodeRule, Pixels
from medloop.prepare.image import ImagePreparer
from medloop.recipe import Recipe
from medloop.steps.kinds.image_files import read_case
from medloop.steps.libraries import DECODERS, installed_versions
from medloop.storage import sha256_bytes

if TYPE_CHECKING:
    import pandas as pd

    from medloop.audit.images.features import ImageSummary

# Below the work folder; it can be removed at any time.
CACHE = "cache/pictures"
SUMMARIES_CODE = ("decode", "audit/images/features.py")
PREPARED_CODE = ("decode", "prepare/image.py")

# The path and the id of a case.
CaseFile = tuple[str, str]


def ingest_rule(recipe: Recipe) -> DecodeRule:
    """Return how ingest and audit read files of many frames; frames that become cases are windowed at ingest."""
    section = recipe.prepare
    if section.frame != "all":
        return DecodeRule(frame=section.frame)
    return DecodeRule(frame="all", window=section.window)


def preparer_of(recipe: Recipe) -> ImagePreparer:
    """Return how the recipe prepares images."""
    section = recipe.prepare
    return ImagePreparer(
        size=section.size,
        channels=section.channels,
        fit=section.fit,
        rule=DecodeRule(window=section.window, frame=section.frame),
    )


def summaries_name(rule: DecodeRule) -> str:
    """Name the audit's summaries by all that they depend on."""
    return _name("looks", SUMMARIES_CODE, rule.to_json())


def prepared_name(preparer: ImagePreparer) -> str:
    """Name the prepared pictures by all that they depend on."""
    return _name("prepared", PREPARED_CODE, preparer.to_json())


def derived_summaries(rule: DecodeRule) -> Derived:
    """Return the array that the audit needs of each picture."""
    from medloop.audit.images.features import pack_summary

    return Derived(name=summaries_name(rule), make=pack_summary)


def derived_of(recipe: Recipe) -> tuple[Derived, ...]:
    """Return what ingest keeps; without the prepared picture if `prepare.window` needs another decoding."""
    rule, preparer = ingest_rule(recipe), preparer_of(recipe)
    if preparer.rule != rule:
        return (derived_summaries(rule),)
    return (derived_summaries(rule), Derived(name=prepared_name(preparer), make=preparer.fit_pixels))


@dataclass(frozen=True, kw_only=True)
class Summarizer:
    """The work on a chunk of files that are not in the cache."""

    root: Path
    rule: DecodeRule

    def __call__(self, files: Sequence[CaseFile], sandbox: Sandbox) -> list[ImageSummary | str]:
        """Return the summary of each file, or why it cannot be decoded."""
        from medloop.audit.images.features import summary_or_reason

        return [summary_or_reason(partial(self._decode, *file, sandbox)) for file in files]

    def _decode(self, path: str, case_id: str, sandbox: Sandbox) -> Pixels:
        return sandbox.decode(read_case(self.root, path, case_id), rule=self.rule).pixels


def summaries_of(cases: pd.DataFrame, root: Path, rule: DecodeRule, folder: Path) -> Iterator[ImageSummary | str]:
    """Yield what the audit needs of each picture, in order; what the cache lacks is decoded on all cores."""
    from medloop.audit.images.features import SUMMARY_TYPE, unpack_summary

    kept = KeptRows(folder / summaries_name(rule), SUMMARY_TYPE)
    rows = [(place := kept.place(name)) and read_row(place, SUMMARY_TYPE) for name in cases["file_sha256"]]
    files = list(zip(cases["path"], cases["case_id"], strict=True))
    missing = [file for file, row in zip(files, rows, strict=True) if row is None]
    many = len(missing) >= MIN_FILES_FOR_PROCESSES
    with each_chunk(Summarizer(root=root, rule=rule), chunks_of(missing), are_many=many, what="audit") as chunks:
        decoded = (summary for chunk in chunks for summary in chunk)
        for row in rows:
            yield next(decoded) if row is None else unpack_summary(row)


def _name(kind: str, code: Sequence[str], rule: dict[str, Any]) -> str:
    root = Path(medloop.__file__).parent
    files = [file for part in code for file in sorted((root / part).rglob("*.py")) or [root / part]]
    content = b"".join(file.read_bytes() for file in files)
    made_by = json.dumps([rule, installed_versions(("numpy", *DECODERS))], sort_keys=True)
    return f"{kind}-{sha256_bytes(content + made_by.encode())[:16]}"
