"""The pointer to the champion: read strictly, numbered so that it only goes forward, and known from its copies."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from medloop.errors import UserError
from medloop.registry.reference import REFERENCE, Reference
from medloop.registry.shapes import is_as_declared
from medloop.registry.version import Champion, Numbered, Version
from medloop.storage import read_json, write_json

POINTER = "champion.json"
METADATA = "promotion_metadata.json"
LINK = "latest"

Named = TypeVar("Named", Champion, Numbered, Reference)


class OlderPointer(UserError):
    """A pointer from before the last promotion that is known."""


def champion_in(pointer: bytes) -> Champion:
    """What the pointer's bytes say."""
    problem, hint = f"{POINTER} does not say which version serves.", "run `medloop models verify`, which repairs it"
    champion = named_in(Champion, pointer, problem=problem, hint=hint)
    if champion.counter < 0:
        raise UserError(problem, found="a counter below 0", hint=hint)
    return champion


def reference_in(content: bytes) -> Reference:
    """What the bytes of the reference's file say."""
    hint = "name one anew: `medloop models reference`"
    return named_in(Reference, content, problem=f"{REFERENCE} does not say which version is the reference.", hint=hint)


def named_in(kind: type[Named], content: bytes, *, problem: str, hint: str) -> Named:
    """The version that some bytes name, or an error."""
    try:
        named = kind(**json.loads(content))
        if is_as_declared(named) and named.version > 0:
            return named
    except (ValueError, TypeError, RecursionError):
        pass
    raise UserError(problem, found="something else", hint=hint)


def recorded_champion(folder: Path) -> Champion | None:
    """What was promoted last, as the copy for other readers tells; None where it is not there or not whole."""
    try:
        content: dict[str, Any] = json.loads((folder / METADATA).read_bytes())
        names = [field.name for field in fields(Champion) if field.name in content]
        return champion_in(json.dumps({name: content[name] for name in names}).encode())
    except (OSError, ValueError, TypeError, RecursionError, UserError):
        return None


def write_copies(folder: Path, version: Version, champion: Champion) -> None:
    """Write what others read of the champion; medloop reads it only where the pointer is not to be trusted."""
    summary = read_json(version.folder / "report" / "run_summary.json")
    reference = {"reference": read_json(path)} if (path := folder / REFERENCE).is_file() else {}
    write_json(folder / METADATA, {**asdict(champion), **reference, "promoted_model": summary})
    fresh = folder / f".{LINK}.new"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(Path("versions") / str(version.number))
    fresh.replace(folder / LINK)


def next_counter(*known: Champion | None) -> int:
    """One that is larger than any before; of the clock (ms), so that it is so too where no earlier one is known."""
    return max([time.time_ns() // 1_000_000, *(champion.counter + 1 for champion in known if champion is not None)])


def is_older(champion: Champion, known: Champion | None) -> bool:
    """Whether a pointer is from before another one."""
    return known is not None and champion.counter < known.counter


def refuse_older(champion: Champion, known: Champion | None) -> None:
    """Raise if a pointer is from before one that was followed already."""
    if known is not None and is_older(champion, known):
        raise OlderPointer(
            f"{POINTER} is older than the promotion that is known here.",
            found=f"counter {champion.counter}, after {known.counter}",
            hint="promote or roll back again, which writes a newer one; `medloop models verify` tells more",
        )
