"""The content of a version's folder: recorded with checksums at registration, and verified later."""

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

# The bundle has its own checksums; the other two hold or cover checksums.
NOT_LISTED = {"bundle", DESCRIPTION, VERSION_SIGNATURE}
RESTORE = "Restore the version's folder from a backup, or roll back: `medloop models rollback`."


def write_description(folder: Path, *, number: int, bundle: str, created: str, by: str) -> None:
    """Write a version's description, with the checksums of all files except its bundle's."""
    facts = {"number": number, "bundle": bundle, "created": created, "by": by}
    write_json(folder / DESCRIPTION, {**facts, "files": _other_checksums(folder)})


def version_numbers(folder: Path) -> list[int]:
    """Return the numbers of all versions in a folder; other entries are ignored."""
    names = [path.name for path in folder.glob("[1-9]*") if path.is_dir()]
    return sorted(int(name) for name in names if name.isascii() and name.isdecimal())


def read_description(folder: Path) -> dict[str, Any]:
    """Read a version's description, or raise an error if it is invalid."""
    content = read_json(folder / DESCRIPTION)
    # An older medloop did not record the number and who registered it.
    types = {"number": int, "bundle": str, "created": str, "by": str, "files": dict}
    complete = {"number": 0, "by": "", **content} if isinstance(content, dict) else {}
    if any(type(complete.get(name)) is not kind for name, kind in types.items()):
        raise UserError(f"{DESCRIPTION} does not describe a version.", RESTORE)
    return dict(content)


def read_version(folder: Path, number: int) -> Version:
    """Read the version in a folder, or raise an error that names it."""
    try:
        content, verdict = read_description(folder), read_verdict(folder / "verdict.json")
    except UserError as error:
        raise BrokenBundle(f"Version {number} cannot be read: {error.problem}", RESTORE) from error
    return Version(
        number=number,
        folder=folder,
        bundle=content["bundle"],
        verdict=verdict,
        created=content["created"],
        by=content.get("by", ""),
    )


def add_number(version: Version) -> None:
    """Add the number to a description that an older medloop wrote."""
    content = read_description(version.folder)
    write_json(version.folder / DESCRIPTION, {"number": version.number, **content})


def is_same_version(one: Any, other: Any) -> bool:
    """Return whether two descriptions are of the same version; one from before the migration lacks the number."""
    return all(isinstance(content, dict) for content in (one, other)) and _without_number(one) == _without_number(other)


def _without_number(description: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in description.items() if name != "number"}


def find_copies(version: Version, versions: Iterable[Version]) -> list[str]:
    """Report whether a version is a copy of an earlier one under another number, which registration never creates."""
    own = read_json(version.folder / DESCRIPTION)
    earlier = [one for one in versions if one.number < version.number]
    same = [one.number for one in earlier if is_same_version(read_json(one.folder / DESCRIPTION), own)]
    return [f"version {version.number}: a copy of version {same[0]}"] if same else []


def find_problems(version: Version) -> list[str]:
    """Return how a version differs from what was registered."""
    name = f"version {version.number}"
    try:
        digest = files.verify(version.folder / "bundle")
    except BrokenBundle as error:
        return [f"{name}: {error.reason}"]
    if digest != version.bundle:
        return [f"{name}: the bundle is not the one that was registered"]
    description, found = read_description(version.folder), _other_checksums(version.folder)
    if description.get("number", version.number) != version.number:
        return [f"{name}: registered as version {description['number']}"]
    registered = description["files"]
    differing = sorted(one for one in {*registered, *found} if registered.get(one) != found.get(one))
    return [f"{name}: {one} was changed after registration" for one in differing]


def _other_checksums(folder: Path) -> dict[str, str]:
    """Return the checksums of all files except the bundle's, which has its own."""
    paths = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix(): sha256_file(folder / path) for path in paths if path.parts[0] not in NOT_LISTED}
