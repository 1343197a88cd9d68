"""The model store: numbered, immutable versions and one pointer that says which of them serves."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medloop.bundle import files
from medloop.case import RuleOutcome, Verdict
from medloop.errors import BrokenBundle, GateRefusal, UserError
from medloop.storage import atomic_folder, file_lock, read_json, sha256_file, write_json

POINTER = "champion.json"
LINK = "latest"
METADATA = "promotion_metadata.json"
DESCRIPTION = "version.json"
RESTORE = "restore the version's folder from a backup, or roll back: `medloop models rollback`"


@dataclass(frozen=True, kw_only=True)
class Version:
    """One registered model."""

    number: int
    folder: Path
    bundle: str
    verdict: Verdict
    created: str


@dataclass(frozen=True, kw_only=True)
class Champion:
    """What serves, since when, by whom, and what served before."""

    version: int
    bundle: str
    previous: int | None
    promoted: str
    by: str


def write_verdict(verdict: Verdict, path: Path) -> None:
    """Store the gate's decision."""
    write_json(path, asdict(verdict))


def read_verdict(path: Path) -> Verdict:
    """The gate's decision, or an error that says how to get one."""
    if not path.is_file():
        raise GateRefusal("a model needs the gate's verdict", found="none", hint="run `medloop gate`")
    content = read_json(path)
    return Verdict(**{**content, "rules": tuple(RuleOutcome(**rule) for rule in content["rules"])})


class ModelStore:
    """The folder of versions; every change is made under one lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.versions_folder = folder / "versions"

    def versions(self) -> Iterator[Version]:
        """All versions, oldest first."""
        numbers = sorted(int(path.name) for path in self.versions_folder.glob("[0-9]*") if path.name.isdigit())
        yield from (self.version(number) for number in numbers)

    def version(self, number: int) -> Version:
        """One version by its number."""
        folder = self.versions_folder / str(number)
        if not folder.is_dir():
            known = [path.name for path in self.versions_folder.glob("[0-9]*")]
            found = f"version {number} of {', '.join(sorted(known, key=int)) or 'none'}"
            raise UserError("a version must be registered", found=found, hint="see `medloop models list`")
        content = read_json(folder / DESCRIPTION)
        verdict = read_verdict(folder / "verdict.json")
        return Version(
            number=number, folder=folder, bundle=content["bundle"], verdict=verdict, created=content["created"]
        )

    def champion(self) -> Champion | None:
        """What serves now."""
        path = self.folder / POINTER
        return Champion(**read_json(path)) if path.is_file() else None

    def register(self, bundle: Path, report: Path, verdict: Verdict) -> Version:
        """A new version of exactly these bytes; the one that exists if they were registered with this decision."""
        digest = files.verify(bundle)
        _check_binding(digest, verdict)
        with self._locked():
            known = (one for one in self.versions() if one.bundle == digest and _is_same(one.verdict, verdict))
            if (version := next(known, None)) is not None:
                return version
            number = max((version.number for version in self.versions()), default=0) + 1
            with atomic_folder(self.versions_folder / str(number)) as target:
                shutil.copytree(bundle, target / "bundle")
                shutil.copytree(report, target / "report")
                shutil.copy(report / "card.md", target / "card.md")
                write_verdict(verdict, target / "verdict.json")
                write_json(target / DESCRIPTION, {"bundle": digest, "created": _now(), "files": _beside_bundle(target)})
        return self.version(number)

    def promote(self, number: int, *, by: str) -> Champion:
        """Let this version serve, if the gate passed exactly these bytes."""
        with self._locked():
            version = self.version(number)
            self._check_may_serve(version)
            now = self.champion()
            if now is not None and now.version == number:
                return now
            return self._point(version, previous=now.version if now else None, by=by)

    def rollback(self, *, by: str) -> Champion:
        """Let the version serve that served before."""
        with self._locked():
            now = self.champion()
            if now is None or now.previous is None:
                raise UserError(
                    "a rollback needs a version that served before", found="none", hint="see `medloop models list`"
                )
            version = self.version(now.previous)
            self._check_may_serve(version)
            return self._point(version, previous=now.version, by=by)

    def verify(self) -> list[str]:
        """What is wrong with the store; the mirrors of the pointer are repaired on the way."""
        with self._locked():
            problems = [problem for version in self.versions() for problem in _problems(version)]
            champion = self.champion()
            if champion is not None:
                version = self.version(champion.version)
                if version.bundle != champion.bundle:
                    problems.append(f"{POINTER} names other bytes than version {champion.version} has")
                self._mirror(version, champion)
        return problems

    def _locked(self) -> Any:
        self.folder.mkdir(parents=True, exist_ok=True)
        return file_lock(self.folder / ".lock")

    def _check_may_serve(self, version: Version) -> None:
        digest = files.verify(version.folder / "bundle")
        if problems := _problems(version):
            raise BrokenBundle("a version must be as it was registered", found="; ".join(problems), hint=RESTORE)
        _check_binding(digest, version.verdict)
        edition = files.read_meta(version.folder / "bundle")["edition"]
        if not version.verdict.passed or version.verdict.smoke or edition != version.verdict.edition:
            failed = [
                f"{rule.name} {rule.needed}, found {rule.found}" for rule in version.verdict.rules if not rule.passed
            ]
            raise GateRefusal(
                "only a version that passed the gate may serve",
                found="; ".join(failed) or "a verdict on another edition",
                hint="mend what the gate names and train again; the rules are in params.yaml, section gate",
            )

    def _point(self, version: Version, *, previous: int | None, by: str) -> Champion:
        champion = Champion(version=version.number, bundle=version.bundle, previous=previous, promoted=_now(), by=by)
        write_json(self.folder / POINTER, asdict(champion))
        self._mirror(version, champion)
        return champion

    def _mirror(self, version: Version, champion: Champion) -> None:
        """What others read; made from the pointer and never read by medloop."""
        summary = read_json(version.folder / "report" / "run_summary.json")
        write_json(self.folder / METADATA, {**asdict(champion), "promoted_model": summary})
        fresh = self.folder / f".{LINK}.new"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(Path("versions") / str(version.number))
        fresh.replace(self.folder / LINK)


def _check_binding(digest: str, verdict: Verdict) -> None:
    if digest != verdict.bundle:
        raise GateRefusal(
            "a verdict must be on exactly these bytes",
            found=f"a verdict on bundle {verdict.bundle[:12]}, the bundle is {digest[:12]}",
            hint="run `medloop evaluate` and `medloop gate` on this bundle",
        )


def _problems(version: Version) -> list[str]:
    try:
        digest = files.verify(version.folder / "bundle")
    except BrokenBundle as error:
        return [f"version {version.number}: {error.found}"]
    if digest != version.bundle:
        return [f"version {version.number}: other bytes than were registered"]
    registered, found = read_json(version.folder / DESCRIPTION)["files"], _beside_bundle(version.folder)
    differing = sorted(name for name in {*registered, *found} if registered.get(name) != found.get(name))
    return [f"version {version.number}: {name} is not as it was registered" for name in differing]


def _beside_bundle(folder: Path) -> dict[str, str]:
    """The checksums of what stands beside the bundle; that has its own."""
    paths = sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {
        path.as_posix(): sha256_file(folder / path) for path in paths if path.parts[0] not in {"bundle", DESCRIPTION}
    }


def _is_same(first: Verdict, second: Verdict) -> bool:
    """Whether two verdicts decide the same for the same reasons, whenever they were made."""
    return replace(first, created="") == replace(second, created="")


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
