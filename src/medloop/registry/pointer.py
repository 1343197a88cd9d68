"""The pointer to the champion: parsed strictly, with a counter that only increases, and restorable from its copies."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from medloop.errors import UserError
from medloop.registry.reference import REFERENCE, Reference
from medloop.registry.version import Champion, Numbered, Version, has_declared_types
from medloop.storage import read_json, write_json

POINTER = "champion.json"
METADATA = "promotion_metadata.json"
LINK = "latest"

Named = TypeVar("Named", Champion, Numbered, Reference)


class OlderPointer(UserError):
    """A pointer that is older than a known promotion."""


def parse_champion(pointer: bytes) -> Champion:
    """Parse the pointer."""
    problem, hint = f"{POINTER} does not name a version.", "Run `medloop models verify`, which repairs it."
    champion = parse_named(Champion, pointer, problem=problem, hint=hint)
    if champion.counter < 0:
        raise UserError(problem, hint)
    return champion


def parse_reference(content: bytes) -> Reference:
    """Parse the file that names the reference version."""
    problem, hint = f"{REFERENCE} does not name a version.", "Set the reference again: `medloop models reference`."
    return parse_named(Reference, content, problem=problem, hint=hint)


def parse_named(kind: type[Named], content: bytes, *, problem: str, hint: str) -> Named:
    """Parse a file that names a version, or raise an error."""
    try:
        named = kind(**json.loads(content))
        if has_declared_types(named) and named.version > 0:
            return named
    except (ValueError, TypeError, RecursionError):
        pass
    raise UserError(problem, hint)


def recorded_champion(folder: Path) -> Champion | None:
    """Return the last promotion according to the copy for other readers, or None if that is missing or damaged."""
    try:
        content: dict[str, Any] = json.loads((folder / METADATA).read_bytes())
        names = [field.name for field in fields(Champion) if field.name in content]
        return parse_champion(json.dumps({name: content[name] for name in names}).encode())
    except (OSError, ValueError, TypeError, RecursionError, UserError):
        return None


def write_copies(folder: Path, version: Version, champion: Champion) -> None:
    """Write the copies for other readers; medloop reads them only if the pointer is damaged or outdated."""
    summary = read_json(version.folder / "report" / "run_summary.json")
    reference = {"reference": read_json(path)} if (path := folder / REFERENCE).is_file() else {}
    write_json(folder / METADATA, {**asdict(champion), **reference, "promoted_model": summary})
    fresh = folder / f".{LINK}.new"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(Path("versions") / str(version.number))
    fresh.replace(folder / LINK)


def next_counter(*known: Champion | None) -> int:
    """Return a counter larger than all known ones; at least the clock in ms, in case the earlier ones are lost."""
    return max([time.time_ns() // 1_000_000, *(champion.counter + 1 for champion in known if champion is not None)])


def is_older(champion: Champion, known: Champion | None) -> bool:
    """Return whether a pointer is older than a known one."""
    return known is not None and champion.counter < known.counter


def refuse_older(champion: Champion, known: Champion | None) -> None:
    """Raise OlderPointer if a pointer is older than a known one."""
    if known is not None and is_older(champion, known):
        raise OlderPointer(
            f"{POINTER} is older (counter {champion.counter}) than the last known promotion ({known.counter}).",
            "Promote or roll back again, which writes a newer one; `medloop models verify` reports details.",
        )
