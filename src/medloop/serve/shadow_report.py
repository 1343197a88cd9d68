"""What a champion and its challenger are compared by: the task, and the result as the file that the service shows."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from medloop.bundle.tally import Tally
from medloop.errors import UserError
from medloop.registry.store import ModelStore, Numbered
from medloop.settings import Settings
from medloop.storage import read_json, write_json

# The exit code of a process that has written down why the pair cannot be compared.
NOTHING_TO_DO = 3


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Who is compared with whom; there may be nobody yet."""

    champion: Numbered | None = None
    challenger: Numbered | None = None

    @classmethod
    def of(cls, store: ModelStore) -> Self:
        """The pair of now."""
        champion, challenger = store.champion(), store.challenger()
        return cls(
            champion=Numbered(version=champion.version, bundle=champion.bundle) if champion else None,
            challenger=challenger.numbered if challenger else None,
        )

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """As `asdict` wrote it."""
        return cls(
            **{name: Numbered(**content[name]) if content[name] else None for name in ("champion", "challenger")}
        )


@dataclass(kw_only=True)
class ShadowReport:
    """The tally of one pair, since when, how far it has come, and why nothing is scored where that is so."""

    pair: Pair
    since: str
    tally: Tally = field(default_factory=Tally)
    # The time and the id of the answer that was looked at last.
    last: tuple[str, str] | None = None
    behind: int = 0
    why: str | None = None

    @classmethod
    def read(cls, file: Path, pair: Pair) -> Self:
        """What was stored of this pair, or a new one."""
        try:
            content = read_json(file)
            if Pair.from_json(content) == pair:
                last = tuple(content["last"]) if content["last"] else None
                return cls(pair=pair, since=content["since"], tally=Tally.from_json(content), last=last)
        except (UserError, LookupError, TypeError):
            # None yet, or one of another form: it is written anew.
            pass
        return cls(pair=pair, since=now())

    def write(self, file: Path) -> None:
        """For the service and for the next process."""
        facts = {"since": self.since, "at": now(), "why": self.why, "behind": self.behind, "last": self.last}
        write_json(file, {**asdict(self.pair), **facts, **self.tally.to_json()})


@dataclass(frozen=True, kw_only=True)
class Task:
    """Which challenger to ask, and where everything lies."""

    settings: Settings
    folder: Path
    pair: Pair

    @property
    def file(self) -> Path:
        """Where the result goes."""
        return file_of(self.settings, self.folder)

    def to_json(self) -> str:
        """One line, for the other process; it needs no secrets."""
        settings = self.settings.model_dump(mode="json", exclude={"patient_key": True, "feedback": {"journal_key"}})
        return json.dumps({"settings": settings, "folder": str(self.folder), "pair": asdict(self.pair)}) + "\n"

    @classmethod
    def from_json(cls, line: str) -> Task:
        """From the line."""
        content = json.loads(line)
        settings = Settings.model_validate(content["settings"])
        return cls(settings=settings, folder=Path(content["folder"]), pair=Pair.from_json(content["pair"]))


def file_of(settings: Settings, folder: Path) -> Path:
    """Where it is stored."""
    return folder / settings.work / "shadow" / "shadow.json"


def figures_of(file: Path) -> dict[str, Any]:
    """The figures of the pair that is compared; none where none is."""
    try:
        content = read_json(file) if file.is_file() else {}
        if not content or content["challenger"] is None:
            return {}
        share = content["agreement"]["share"] if content["agreement"] else float("nan")
        versions = {name: str(content[name]["version"]) for name in ("champion", "challenger")}
        return {**versions, "agreement": share, "scored": content["scored"], "behind": content["behind"]}
    except (UserError, LookupError, TypeError):
        return {}


def now() -> str:
    """The time, in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
