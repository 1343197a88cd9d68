"""The model store: numbered, immutable versions and one pointer that says which of them serves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from medloop.bundle import files
from medloop.case import RuleOutcome, Verdict
from medloop.errors import BrokenBundle, GateRefusal, UserError
from medloop.registry.approval import check_binding, check_may_be_reference, check_second_person, check_up_to_date
from medloop.registry.reference import REFERENCE, Reference, first_approved
from medloop.registry.signing import check_signature, sign_bundle
from medloop.registry.version import Champion, Numbered, Version
from medloop.storage import atomic_folder, file_lock, read_json, sha256_file, write_json

__all__ = ["Champion", "ModelStore", "Numbered", "Version", "champion_in", "read_verdict", "write_verdict"]

POINTER = "champion.json"
# Where a store is followed from afar, as a copy has not all versions.
CHALLENGER = "challenger.json"
LINK = "latest"
METADATA = "promotion_metadata.json"
DESCRIPTION = "version.json"
SIGNATURE = "bundle.sig"
# What a version that is not as it should be makes its readers raise.
BROKEN = (UserError, OSError, ValueError, TypeError, LookupError)
RESTORE = "restore the version's folder from a backup, or roll back: `medloop models rollback`"


Named = TypeVar("Named", Champion, Numbered, Reference)


def champion_in(pointer: bytes) -> Champion:
    """What the pointer's bytes say."""
    return named_in(Champion, pointer, must=f"{POINTER} must say what serves")


def reference_in(content: bytes) -> Reference:
    """What the bytes of the reference's file say."""
    return named_in(Reference, content, must=f"{REFERENCE} must say which version is the reference")


def named_in(kind: type[Named], pointer: bytes, *, must: str) -> Named:
    """The version that a pointer's bytes name, or an error that says what they must do."""
    try:
        named = kind(**json.loads(pointer))
        if type(named.version) is int and named.version > 0:
            return named
    except (ValueError, TypeError, RecursionError):
        pass
    raise UserError(must, found="something else", hint="promote a version again")


def write_verdict(verdict: Verdict, path: Path) -> None:
    """Store the gate's decision."""
    write_json(path, asdict(verdict))


def read_verdict(path: Path) -> Verdict:
    """The gate's decision, or an error that says how to get one."""
    if not path.is_file():
        raise GateRefusal("a model needs the gate's verdict", found="none", hint="run `medloop gate`")
    content = read_json(path)
    rules, warnings = tuple(RuleOutcome(**rule) for rule in content["rules"]), tuple(content.get("warnings", ()))
    return Verdict(**{**content, "rules": rules, "warnings": warnings})


class ModelStore:
    """The folder of versions; every change is made under one lock.

    With a public key, only bundles that were signed with the private one may be promoted or loaded.
    """

    # How often whoever follows the pointer looks at it, unless the settings say.
    watch_seconds = 1.0

    def __init__(self, folder: Path, *, verify_key: Path | None = None) -> None:
        self.folder = folder
        self.versions_folder = folder / "versions"
        self.verify_key = verify_key

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
            number=number,
            folder=folder,
            bundle=content["bundle"],
            verdict=verdict,
            created=content["created"],
            by=content.get("by", ""),
        )

    def bundle(self, number: int) -> Path:
        """The bundle of a version, its signature checked where one is demanded; the Predictor checks its bytes."""
        version = self.version(number)
        self.check_signed(version.folder / "bundle")
        return version.folder / "bundle"

    def find(self, bundle: str, *, version: str) -> Path | None:  # noqa: ARG002 - for stores that must fetch it
        """The folder of exactly this bundle; `version` is the name that it served under."""
        return next((one.folder / "bundle" for one in self.versions() if one.bundle == bundle), None)

    def champion(self) -> Champion | None:
        """What serves now."""
        path = self.folder / POINTER
        return Champion(**read_json(path)) if path.is_file() else None

    def reference(self) -> Reference | None:
        """The version that every later one is held against; none before the first promotion."""
        champion = self.champion()
        if champion is None:
            return None
        stored = self._stored_reference()
        return stored if stored is not None else first_approved(self.versions(), champion)

    def pointer(self) -> bytes | None:
        """The bytes that change when another version serves."""
        try:
            return (self.folder / POINTER).read_bytes()
        except FileNotFoundError:
            return None

    def bring(self, champion: Champion) -> Path:
        """The bundle of what the pointer names, on this machine."""
        return self.bundle(champion.version)

    def keep(self, champion: Champion) -> None:
        """Told of what was loaded; here there is nothing to remember."""

    def kept(self) -> Champion | None:
        """What to serve where the pointer's version cannot be had; here only that one will do."""
        return None

    def check_changeable(self) -> None:
        """Raises where versions must not be changed; here they may."""

    def follow_challenger(self) -> None:
        """Told now and then by whoever shadows; here every version is at hand."""

    def challenger(self) -> Version | None:
        """The newest version that passed the gate, came after the champion and has not served; it may shadow it."""
        now = self.champion()
        newer = [one for one in self.versions() if one.may_shadow and (now is None or one.number > now.version)]
        return newer[-1] if newer and (now is None or newer[-1].number != now.previous) else None

    def register(
        self, bundle: Path, report: Path, verdict: Verdict, *, by: str = "", key: Path | None = None
    ) -> Version:
        """A new version of exactly these bytes, signed with the key if there is one; once for each decision on them."""
        digest = files.verify(bundle)
        check_binding(digest, verdict)
        with self._locked():
            for one in self.versions():
                is_signed = key is None or (one.folder / SIGNATURE).is_file()
                if one.bundle == digest and is_signed and _is_same(one.verdict, verdict):
                    return one
            number = max((version.number for version in self.versions()), default=0) + 1
            with atomic_folder(self.versions_folder / str(number)) as target:
                shutil.copytree(bundle, target / "bundle")
                shutil.copytree(report, target / "report")
                shutil.copy(report / "card.md", target / "card.md")
                write_verdict(verdict, target / "verdict.json")
                if key is not None:
                    sign_bundle(target / "bundle", target / SIGNATURE, key=key)
                facts = {"bundle": digest, "created": _now(), "by": by}
                write_json(target / DESCRIPTION, {**facts, "files": _beside_bundle(target)})
        return self.version(number)

    def promote(self, number: int, *, by: str, second_person: bool = False) -> Champion:
        """Let this version serve, if the gate passed exactly these bytes, against the champion that serves now."""
        with self._locked():
            version = self.version(number)
            self._check_may_serve(version)
            now = self.champion()
            if now is not None and now.version == number:
                return now
            check_up_to_date(version, now, self.reference())
            if second_person or version.verdict.gate.get("second_person"):
                check_second_person(version, by)
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

    def set_reference(self, number: int, *, by: str) -> Reference:
        """Let this version be the one that later ones are held against; a second person must do it."""
        with self._locked():
            version, now = self.version(number), self.reference()
            if now is not None and now.version == number:
                return now
            check_may_be_reference(version, self.champion(), by)
            self._check_may_serve(version)
            return self._refer(Reference(version=number, bundle=version.bundle, since=_now(), by=by))

    def migrate(self) -> Reference | None:
        """Write down the reference version where an older medloop did not; it is returned where it was written."""
        with self._locked():
            reference = self.reference()
            if reference is None or self._stored_reference() is not None:
                return None
            return self._refer(reference)

    def check_signed(self, bundle: Path) -> None:
        """Raises where signatures are demanded and none that fits lies beside the bundle's folder."""
        if self.verify_key is not None:
            check_signature(bundle, bundle.parent / SIGNATURE, key=self.verify_key)

    def verify(self) -> list[str]:
        """What is wrong with the store; the mirrors of the pointer are repaired on the way."""
        with self._locked():
            problems = [problem for version in self.versions() for problem in _problems(version)]
            champion = self.champion()
            if champion is not None:
                version = self.version(champion.version)
                problems += self._signature_problems(version)
                if version.bundle != champion.bundle:
                    problems.append(f"{POINTER} names other bytes than version {champion.version} has")
                problems += self._reference_problems()
                self._mirror(version, champion)
        return problems

    def _reference_problems(self) -> list[str]:
        """What is wrong with the reference version; where none is written down, the one that holds is."""
        try:
            reference = self.reference()
            if reference is not None and self._stored_reference() is None:
                self._refer(reference)
            if reference is None:
                return []
            version = self.version(reference.version)
        except UserError as error:
            return [f"{REFERENCE}: {error.found}"]
        if version.bundle != reference.bundle:
            return [f"{REFERENCE} names other bytes than version {reference.version} has"]
        return [] if version.verdict.passed else [f"{REFERENCE} names version {reference.version}, which was refused"]

    def _stored_reference(self) -> Reference | None:
        try:
            content = (self.folder / REFERENCE).read_bytes()
        except FileNotFoundError:
            return None
        return reference_in(content)

    def _refer(self, reference: Reference) -> Reference:
        write_json(self.folder / REFERENCE, asdict(reference))
        return reference

    def _locked(self) -> Any:
        self.check_changeable()
        self.folder.mkdir(parents=True, exist_ok=True)
        return file_lock(self.folder / ".lock")

    def _check_may_serve(self, version: Version) -> None:
        if problems := _problems(version):
            raise BrokenBundle("a version must be as it was registered", found="; ".join(problems), hint=RESTORE)
        self.check_signed(version.folder / "bundle")
        check_binding(version.bundle, version.verdict)
        edition = files.read_meta(version.folder / "bundle")["edition"]
        if not version.verdict.passed or version.verdict.smoke or edition != version.verdict.edition:
            failed = [str(rule) for rule in version.verdict.rules if not rule.passed]
            raise GateRefusal(
                "only a version that passed the gate may serve",
                found="; ".join(failed) or "a verdict on another edition",
                hint="mend what the gate names and train again; the rules are in params.yaml, section gate",
            )

    def _signature_problems(self, version: Version) -> list[str]:
        try:
            self.check_signed(version.folder / "bundle")
        except BrokenBundle as error:
            return [f"version {version.number}: {error.found}"]
        return []

    def _point(self, version: Version, *, previous: int | None, by: str) -> Champion:
        champion = Champion(version=version.number, bundle=version.bundle, previous=previous, promoted=_now(), by=by)
        if not (self.folder / POINTER).is_file():
            # Nothing was approved before: what a kill may have left of a reference does not count.
            self._refer(Reference(version=version.number, bundle=version.bundle, since=champion.promoted, by=by))
        elif not (self.folder / REFERENCE).is_file() and (first := self.reference()) is not None:
            self._refer(first)
        write_json(self.folder / POINTER, asdict(champion))
        self._mirror(version, champion)
        return champion

    def _mirror(self, version: Version, champion: Champion) -> None:
        """What others read; made from the pointer and never read by medloop."""
        summary = read_json(version.folder / "report" / "run_summary.json")
        reference = {"reference": read_json(path)} if (path := self.folder / REFERENCE).is_file() else {}
        write_json(self.folder / METADATA, {**asdict(champion), **reference, "promoted_model": summary})
        fresh = self.folder / f".{LINK}.new"
        fresh.unlink(missing_ok=True)
        fresh.symlink_to(Path("versions") / str(version.number))
        fresh.replace(self.folder / LINK)


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
    """Whether two verdicts decide the same by the same rules, against the same champion; latencies vary."""
    return _decision(first) == _decision(second)


def _decision(verdict: Verdict) -> tuple[Any, ...]:
    against = [(one or {}).get("bundle") for one in (verdict.champion, verdict.reference)]
    rules = [(rule.name, rule.needed, rule.passed) for rule in verdict.rules]
    return verdict.bundle, verdict.edition, verdict.passed, verdict.smoke, verdict.gate, against, rules


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
