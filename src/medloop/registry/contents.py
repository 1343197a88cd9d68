"""What a version's folder holds: written down with checksums when it is registered, and compared ever after."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from medloop.bundle import files
from medloop.errors import BrokenBundle, UserError
from medloop.registry.signing import DESCRIPTION, VERSION_SIGNATURE
from medloop.registry.verdicts import read_verdict
from medloop.registry.version import Version
from medloop.storage import read_json, sha256_file, write_json

# What has checksums of its own, holds them, or covers them.
APART = {"bundle", DESCRIPTION, VERSION_SIGNATURE}
RESTORE = "restore the version's folder from a backup, or roll back: `medloop models rollback`"


def describe(folder: Path, *, number: int, bundle: str, created: str, by: str) -> None:
    """Write down what a version is and the checksums of all that stands beside its bundle."""
    facts = {"number": number, "bundle": bundle, "created": created, "by": by}
    write_json(folder / DESCRIPTION, {**facts, "files": _beside_bundle(folder)})


def numbers_in(folder: Path) -> list[int]:
    """The numbers of all versions in a folder; what else lies there is no version."""
    names = [path.name for path in folder.glob("[1-9]*") if path.is_dir()]
    return sorted(int(name) for name in names if name.isascii() and name.isdecimal())


def read_description(folder: Path) -> dict[str, Any]:
    """What a version is, or an error where it does not say so."""
    content = read_json(folder / DESCRIPTION)
    # The number and who registered it: an older medloop did not write them down.
    types = {"number": int, "bundle": str, "created": str, "by": str, "files": dict}
    least = {"number": 0, "by": "", **content} if isinstance(content, dict) else {}
    if any(type(least.get(name)) is not kind for name, kind in types.items()):
        raise UserError(f"{DESCRIPTION} does not describe a version", found="something else", hint=RESTORE)
    return dict(content)


def version_in(folder: Path, number: int) -> Version:
    """The version in a folder, or an error that says which one cannot be read."""
    try:
        content, verdict = read_description(folder), read_verdict(folder / "verdict.json")
    except UserError as error:
        found = f"version {number}: {error.must} ({error.found})"
        raise BrokenBundle("a version must be as it was registered", found=found, hint=RESTORE) from error
    return Version(
        number=number,
        folder=folder,
        bundle=content["bundle"],
        verdict=verdict,
        created=content["created"],
        by=content.get("by", ""),
    )


def add_number(version: Version) -> None:
    """Write the number into the description of a version of an older medloop."""
    content = read_description(version.folder)
    write_json(version.folder / DESCRIPTION, {"number": version.number, **content})


def is_same_version(one: Any, other: Any) -> bool:
    """Whether two descriptions are of one version; a copy of before it was migrated lacks the number."""
    return all(isinstance(content, dict) for content in (one, other)) and _unnumbered(one) == _unnumbered(other)


def _unnumbered(description: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in description.items() if name != "number"}


def copies_of(version: Version, versions: Iterable[Version]) -> list[str]:
    """Whether a version is a copy of an earlier one under another number, which no registration makes."""
    own = read_json(version.folder / DESCRIPTION)
    earlier = [one for one in versions if one.number < version.number]
    same = [one.number for one in earlier if is_same_version(read_json(one.folder / DESCRIPTION), own)]
    return [f"version {version.number}: a copy of version {same[0]}"] if same else []


def problems_of(version: Version) -> list[str]:
    """What differs from what was registered."""
    name = f"version {version.number}"
    try:
        digest = files.verify(version.folder / "bundle")
    except BrokenBundle as error:
        return [f"{name}: {error.found}"]
    if digest != version.bundle:
        return [f"{name}: other bytes than were registered"]
    description, found = read_description(version.folder), _beside_bundle(version.folder)
    if description.get("number", version.number) != version.number:
        return [f"{name}: registered as version {description['number']}"]
    registered = description["files"]
    differing = sorted(one for one in {*registered, *found} if registered.get(one) != found.get(one))
    return [f"{name}: {one} is not as it was registered" for one in differing]


def _beside_bundle(folder: Path) -> dict[str, str]:
    """The checksums of what stands beside the bundle; that has its own."""
    paths = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix(): sha256_file(folder / path) for path in paths if path.parts[0] not in APART}
