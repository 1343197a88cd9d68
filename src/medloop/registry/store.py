"""The model store: numbered, immutable versions and one pointer that says which of them serves."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from medloop.bundle import files
from medloop.bundle.probe import check_works
from medloop.case import Verdict
from medloop.errors import BrokenBundle, GateRefusal, UserError
from medloop.registry.approval import check_binding, check_may_be_reference, check_second_person, check_up_to_date
from medloop.registry.contents import (
    RESTORE,
    add_number,
    copies_of,
    describe,
    numbers_in,
    problems_of,
    version_in,
)
from medloop.registry.pointer import (
    METADATA,
    POINTER,
    OlderPointer,
    champion_in,
    is_older,
    next_counter,
    recorded_champion,
    reference_in,
    refuse_older,
    write_copies,
)
from medloop.registry.reference import REFERENCE, Reference, first_approved
from medloop.registry.signing import (
    SIGNATURE,
    VERSION_SIGNATURE,
    check_signature,
    check_version_signature,
    sign_bundle,
    sign_version,
)
from medloop.registry.verdicts import is_same_decision, read_verdict, write_verdict
from medloop.registry.version import Champion, Numbered, Version
from medloop.storage import atomic_folder, file_lock, write_json

__all__ = ["Champion", "ModelStore", "Numbered", "OlderPointer", "Version", "champion_in", "read_verdict"]
__all__ += ["POINTER", "RESTORE", "refuse_older", "write_verdict"]

# Where a store is followed from afar, as a copy has not all versions.
CHALLENGER = "challenger.json"
# What a version that is not as it should be makes its readers raise.
BROKEN = (UserError, OSError, ValueError, TypeError, LookupError)


class ModelStore:
    """The folder of versions; every change is made under one lock.

    With a public key, only versions that were signed with the private one may be promoted or loaded.
    """

    # How often whoever follows the pointer looks at it, unless the settings say.
    watch_seconds = 1.0

    def __init__(self, folder: Path, *, verify_key: Path | None = None) -> None:
        self.folder = folder
        self.versions_folder = folder / "versions"
        self.verify_key = verify_key

    def versions(self) -> Iterator[Version]:
        """All versions, oldest first."""
        yield from (self.version(number) for number in numbers_in(self.versions_folder))

    def version(self, number: int) -> Version:
        """One version by its number."""
        folder = self.versions_folder / str(number)
        if not folder.is_dir():
            found = f"version {number} of {', '.join(map(str, numbers_in(self.versions_folder))) or 'none'}"
            raise UserError("a version must be registered", found=found, hint="see `medloop models list`")
        return version_in(folder, number)

    def bundle(self, number: int) -> Path:
        """The bundle of a version, its signature checked where one is demanded; the Predictor checks its bytes."""
        version = self.version(number)
        self._check_version_signed(version)
        return version.folder / "bundle"

    def find(self, bundle: str, *, version: str) -> Path | None:  # noqa: ARG002 - for stores that must fetch it
        """The folder of exactly this bundle; `version` is the name that it served under."""
        return next((one.folder / "bundle" for one in self.versions() if one.bundle == bundle), None)

    def champion(self) -> Champion | None:
        """What serves now, or an error where the pointer does not say it."""
        try:
            return champion_in((self.folder / POINTER).read_bytes())
        except FileNotFoundError:
            return None

    def reference(self) -> Reference | None:
        """The version that every later one is held against; none before the first promotion."""
        champion, _ = self._settled()
        if champion is None and not (self.folder / POINTER).is_file():
            return None
        stored = self._stored_reference()
        if stored is not None or champion is None:
            return stored
        return first_approved(self.versions(), champion)

    def pointer(self) -> bytes | None:
        """The bytes that change when another version serves."""
        try:
            return (self.folder / POINTER).read_bytes()
        except FileNotFoundError:
            return None

    def bring(self, champion: Champion) -> Path:
        """The bundle of what the pointer names, on this machine; where signatures are demanded, all that it needs."""
        version = self.version(champion.version)
        if self.verify_key is not None:
            self._check_may_serve(version)
        return version.folder / "bundle"

    def keep(self, champion: Champion) -> None:
        """Told of what was loaded; here there is nothing to remember."""

    def kept(self) -> Champion | None:
        """What to serve where the pointer is damaged or older than the last promotion."""
        champion, wrong = self._settled()
        return champion if wrong else None

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
        digest = check_works(bundle)
        check_binding(digest, verdict)
        with self._locked():
            for one in self.versions():
                is_signed = key is None or (one.folder / VERSION_SIGNATURE).is_file()
                if one.bundle == digest and is_signed and is_same_decision(one.verdict, verdict):
                    return one
            number = max((version.number for version in self.versions()), default=0) + 1
            with atomic_folder(self.versions_folder / str(number)) as target:
                shutil.copytree(bundle, target / "bundle")
                shutil.copytree(report, target / "report")
                shutil.copy(report / "card.md", target / "card.md")
                write_verdict(verdict, target / "verdict.json")
                if key is not None:
                    sign_bundle(target / "bundle", target / SIGNATURE, key=key)
                describe(target, number=number, bundle=digest, created=_now(), by=by)
                if key is not None:
                    sign_version(target, key=key)
        return self.version(number)

    def promote(self, number: int, *, by: str, second_person: bool = False) -> Champion:
        """Let this version serve, if the gate passed exactly these bytes, against the champion that serves now."""
        with self._locked():
            version = self.version(number)
            self._check_may_serve(version)
            self._repair()
            now, _ = self._settled()
            if now is not None and now.version == number:
                return now
            check_up_to_date(version, now, self.reference())
            if second_person or version.verdict.gate.get("second_person"):
                check_second_person(version, by)
            return self._point(version, previous=now.version if now else None, by=by)

    def rollback(self, *, by: str) -> Champion:
        """Let the version serve that served before."""
        with self._locked():
            self._repair()
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
            self._repair()
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

    def sign_anew(self, *, key: Path | None) -> tuple[list[int], list[str]]:
        """Sign the versions of which an older medloop signed just the bundle: those signed, and why others were not."""
        signed, left = [], []
        with self._locked():
            for version in self.versions():
                folder = version.folder
                if (folder / VERSION_SIGNATURE).is_file() or not (folder / SIGNATURE).is_file():
                    continue
                if key is None or self.verify_key is None:
                    left.append(f"version {version.number}: signing.key and signing.verify_key must both be set")
                elif problems := self._signature_problems(version, of_bundle=True) or problems_of(version):
                    left += problems
                elif copies := copies_of(version, self.versions()):
                    left += copies
                else:
                    add_number(version)
                    sign_version(folder, key=key)
                    signed.append(version.number)
        return signed, left

    def check_signed(self, bundle: Path) -> None:
        """Raises where signatures are demanded and none that fits lies beside the bundle's folder."""
        if self.verify_key is not None:
            check_signature(bundle, bundle.parent / SIGNATURE, key=self.verify_key)

    def repair(self) -> str:
        """Write a pointer that is damaged or older than the last promotion anew; the words say what was done."""
        with self._locked():
            return self._repair()

    def verify(self) -> list[str]:
        """What is wrong with the store; the pointer and its mirrors are repaired on the way."""
        with self._locked():
            self._repair()
            readable, unreadable = self._readable()
            problems = [problem for version in readable for problem in self._problems(version)]
            problems += unreadable.values()
            champion, wrong = self._settled()
            if wrong:
                return [*problems, wrong]
            if champion is not None and champion.version not in unreadable:
                version = self.version(champion.version)
                if version.bundle != champion.bundle:
                    problems.append(f"{POINTER} names other bytes than version {champion.version} has")
                problems += self._reference_problems()
                write_copies(self.folder, version, champion)
        return problems

    def _readable(self) -> tuple[list[Version], dict[int, str]]:
        """The versions that can be read, and why others cannot."""
        readable, unreadable = [], {}
        for number in numbers_in(self.versions_folder):
            try:
                readable.append(self.version(number))
            except BrokenBundle as error:
                unreadable[number] = error.found
        return readable, unreadable

    def _settled(self) -> tuple[Champion | None, str]:
        """What serves as far as the store tells, and what is wrong with the pointer."""
        known = recorded_champion(self.folder)
        try:
            champion = self.champion()
        except UserError:
            if known is not None and self._may_serve(known):
                return known, f"{POINTER} is damaged"
            return None, f"{POINTER} is damaged, and {METADATA} does not tell which version served; promote one"
        if champion is not None and known is not None and is_older(champion, known) and self._may_serve(known):
            return known, f"{POINTER} is older than the last promotion"
        return champion, ""

    def _may_serve(self, champion: Champion) -> bool:
        try:
            version = self.version(champion.version)
            self._check_may_serve(version)
        except BROKEN:
            return False
        return version.bundle == champion.bundle

    def _repair(self) -> str:
        champion, wrong = self._settled()
        if not wrong or champion is None:
            return wrong
        repaired = replace(champion, counter=next_counter(champion))
        write_json(self.folder / POINTER, asdict(repaired))
        write_copies(self.folder, self.version(repaired.version), repaired)
        return f"{wrong}; it was written anew from {METADATA}: version {repaired.version} serves"

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
        if problems := problems_of(version):
            raise BrokenBundle("a version must be as it was registered", found="; ".join(problems), hint=RESTORE)
        self._check_version_signed(version)
        check_binding(version.bundle, version.verdict)
        edition = files.read_meta(version.folder / "bundle")["edition"]
        if not version.verdict.passed or version.verdict.smoke or edition != version.verdict.edition:
            failed = [str(rule) for rule in version.verdict.rules if not rule.passed]
            raise GateRefusal(
                "only a version that passed the gate may serve",
                found="; ".join(failed) or "a verdict on another edition",
                hint="mend what the gate names and train again; the rules are in params.yaml, section gate",
            )
        check_works(version.folder / "bundle")

    def _check_version_signed(self, version: Version) -> None:
        if self.verify_key is not None:
            check_version_signature(version, key=self.verify_key)

    def _problems(self, version: Version) -> list[str]:
        """What differs from what was registered, and from what was signed."""
        if problems := problems_of(version):
            return problems
        champion, _ = self._settled()
        is_needed = champion is not None and champion.version == version.number
        if is_needed or any((version.folder / name).is_file() for name in (SIGNATURE, VERSION_SIGNATURE)):
            return self._signature_problems(version)
        return []

    def _signature_problems(self, version: Version, *, of_bundle: bool = False) -> list[str]:
        try:
            self.check_signed(version.folder / "bundle") if of_bundle else self._check_version_signed(version)
        except BrokenBundle as error:
            return [f"version {version.number}: {error.found}"]
        return []

    def _point(self, version: Version, *, previous: int | None, by: str) -> Champion:
        before = (recorded_champion(self.folder), self._settled()[0])
        champion = Champion(
            version=version.number,
            bundle=version.bundle,
            previous=previous,
            promoted=_now(),
            by=by,
            counter=next_counter(*before),
        )
        if not (self.folder / POINTER).is_file():
            # Nothing was approved before: what a kill may have left of a reference does not count.
            self._refer(Reference(version=version.number, bundle=version.bundle, since=champion.promoted, by=by))
        elif not (self.folder / REFERENCE).is_file() and (first := self.reference()) is not None:
            self._refer(first)
        write_json(self.folder / POINTER, asdict(champion))
        write_copies(self.folder, version, champion)
        return champion


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
