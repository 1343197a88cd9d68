"""The task of the shadow process, and the report that compares a champion with its challenger."""

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

# The exit code of a process that has reported why the pair cannot be compared.
NOTHING_TO_DO = 3


@dataclass(frozen=True, kw_only=True)
class Pair:
    """The champion and the challenger; either may be missing."""

    champion: Numbered | None = None
    challenger: Numbered | None = None

    @classmethod
    def of(cls, store: ModelStore) -> Self:
        """Return the current pair."""
        champion, challenger = store.champion(), store.challenger()
        return cls(
            champion=Numbered(version=champion.version, bundle=champion.bundle) if champion else None,
            challenger=challenger.numbered if challenger else None,
        )

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Return the pair that `asdict` wrote."""
        return cls(
            **{name: Numbered(**content[name]) if content[name] else None for name in ("champion", "challenger")}
        )


@dataclass(kw_only=True)
class ShadowReport:
    """The comparison of one pair: its tally, its progress, and the reason if nothing is scored."""

    pair: Pair
    since: str
    tally: Tally = field(default_factory=Tally)
    # The time and the id of the last prediction that was processed.
    last: tuple[str, str] | None = None
    behind: int = 0
    why: str | None = None

    @classmethod
    def read(cls, file: Path, pair: Pair) -> Self:
        """Return the stored report on this pair, or a new one."""
        try:
            content = read_json(file)
            if Pair.from_json(content) == pair:
                last = tuple(content["last"]) if content["last"] else None
                return cls(pair=pair, since=content["since"], tally=Tally.from_json(content), last=last)
        except (UserError, LookupError, TypeError):
            # There is none yet, or it has another form and is replaced.
            pass
        return cls(pair=pair, since=now())

    def write(self, file: Path) -> None:
        """Write the report, for the service and for the next process."""
        facts = {"since": self.since, "at": now(), "why": self.why, "behind": self.behind, "last": self.last}
        write_json(file, {**asdict(self.pair), **facts, **self.tally.to_json()})


@dataclass(frozen=True, kw_only=True)
class Task:
    """The pair to compare, the settings and the folder of the project."""

    settings: Settings
    folder: Path
    pair: Pair

    @property
    def file(self) -> Path:
        """Return the path of the report."""
        return report_path(self.settings, self.folder)

    def to_json(self) -> str:
        """Return the task as one line for the shadow process, without secrets, which it does not need."""
        settings = self.settings.model_dump(mode="json", exclude={"patient_key": True, "feedback": {"journal_key"}})
        return json.dumps({"settings": settings, "folder": str(self.folder), "pair": asdict(self.pair)}) + "\n"

    @classmethod
    def from_json(cls, line: str) -> Task:
        """Return the task that `to_json` wrote."""
        content = json.loads(line)
        settings = Settings.model_validate(content["settings"])
        return cls(settings=settings, folder=Path(content["folder"]), pair=Pair.from_json(content["pair"]))


def report_path(settings: Settings, folder: Path) -> Path:
    """Return the path of the report."""
    return folder / settings.work / "shadow" / "shadow.json"


def read_shadow_metrics(file: Path) -> dict[str, Any]:
    """Return the values for Prometheus; empty if there is no challenger."""
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
    """Return the current time in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")
