"""What a version's folder holds: written down with checksums when it is registered, and compared ever after."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medloop.bundle import files
from medloop.errors import BrokenBundle
from medloop.registry.signing import DESCRIPTION, VERSION_SIGNATURE
from medloop.storage import read_json, sha256_file, write_json

if TYPE_CHECKING:
    from medloop.registry.version import Version

# What has checksums of its own, holds them, or covers them.
APART = {"bundle", DESCRIPTION, VERSION_SIGNATURE}


def describe(folder: Path, *, number: int, bundle: str, created: str, by: str) -> None:
    """Write down what a version is and the checksums of all that stands beside its bundle."""
    facts = {"number": number, "bundle": bundle, "created": created, "by": by}
    write_json(folder / DESCRIPTION, {**facts, "files": _beside_bundle(folder)})


def add_number(version: Version) -> None:
    """Write the number into the description of a version of an older medloop."""
    content = read_json(version.folder / DESCRIPTION)
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
    description, found = read_json(version.folder / DESCRIPTION), _beside_bundle(version.folder)
    if description.get("number", version.number) != version.number:
        return [f"{name}: registered as version {description['number']}"]
    registered = description["files"]
    differing = sorted(one for one in {*registered, *found} if registered.get(one) != found.get(one))
    return [f"{name}: {one} is not as it was registered" for one in differing]


def _beside_bundle(folder: Path) -> dict[str, str]:
    """The checksums of what stands beside the bundle; that has its own."""
    paths = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {path.as_posix(): sha256_file(folder / path) for path in paths if path.parts[0] not in APART}
