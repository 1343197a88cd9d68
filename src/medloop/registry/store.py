"""The model store: numbered, immutable versions, and a pointer to the one that serves."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from medloop.bundle import files
from medloop.bundle.verify.probe import check_works
from medloop.case import Verdict
from medloop.errors import BrokenBundle, GateRefusal, UserError
from medloop.registry.approval import check_binding, check_may_be_reference, check_second_person, check_up_to_date
from medloop.registry.contents import (
    RESTORE,
    add_number,
    find_copies,
    find_problems,
    read_version,
    version_numbers,
    write_description,
)
from medloop.registry.pointer import (
    METADATA,
    POINTER,
    OlderPointer,
    is_older,
    next_counter,
    parse_champion,
    parse_reference,
    recorded_champion,
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
from medloop.times import utc_now_seconds

__all__ = ["Champion", "ModelStore", "Numbered", "OlderPointer", "Version", "parse_champion", "read_verdict"]
__all__ += ["POINTER", "RESTORE", "refuse_older", "write_verdict"]

# Names the challenger in a copy, which does not have all versions.
CHALLENGER = "challenger.json"
# The errors that reading a damaged version can raise.
BROKEN = (UserError, OSError, ValueError, TypeError, LookupError)


class ModelStore:
    """A folder of versions; every change is made under a lock.

    With `verify_key`, only versions signed with its private key can be promoted or loaded.
    """

    # How often services check the pointer, unless the settings define it.
    watch_seconds = 1.0

    def __init__(self, folder: Path, *, verify_key: Path | None = None) -> None:
        self.folder = folder
        self.versions_folder = folder / "versions"
        self.verify_key = verify_key

    def versions(self) -> Iterator[Version]:
        """Yield all versions, oldest first."""
        yield from (self.version(number) for number in version_numbers(self.versions_folder))

    def version(self, number: int) -> Version:
        """Return a version by its number."""
        folder = self.versions_folder / str(number)
        if not folder.is_dir():
            known = ", ".join(map(str, version_numbers(self.versions_folder))) or "no versions"
            raise UserError(f"There is no version {number}; the store has {known}.", "See `medloop models list`.")
        return read_version(folder, number)

    def bundle(self, number: int) -> Path:
        """Return the bundle of a version after checking its signature, if required; the Predictor checks its hash."""
        version = self.version(number)
        self._check_version_signed(version)
        return version.folder / "bundle"

    def find(self, bundle: str, *, version: str) -> Path | None:  # noqa: ARG002 - used by stores that download it
        """Return the folder of exactly this bundle, or None; `version` is the version that it served as."""
        return next((one.folder / "bundle" for one in self.versions() if one.bundle == bundle), None)

    def champion(self) -> Champion | None:
        """Return the version that serves, or raise an error if the pointer is damaged."""
        try:
            return parse_champion((self.folder / POINTER).read_bytes())
        except FileNotFoundError:
            return None

    def reference(self) -> Reference | None:
        """Return the reference version, or None before the first promotion."""
        champion, _ = self._current_champion()
        if champion is None and not (self.folder / POINTER).is_file():
            return None
        stored = self._stored_reference()
        if stored is not None or champion is None:
            return stored
        return first_approved(self.versions(), champion)

    def pointer(self) -> bytes | None:
        """Return the content of the pointer, which changes with every promotion, or None."""
        try:
            return (self.folder / POINTER).read_bytes()
        except FileNotFoundError:
            return None

    def fetch_bundle(self, champion: Champion) -> Path:
        """Return the bundle that the pointer names, after all checks if signatures are required."""
        version = self.version(champion.version)
        if self.verify_key is not None:
            self._check_may_serve(version)
        return version.folder / "bundle"

    def remember(self, champion: Champion) -> None:
        """Note what was loaded; nothing to do here."""

    def fallback_champion(self) -> Champion | None:
        """Return what to serve if the pointer is damaged or older than the last promotion, else None."""
        champion, wrong = self._current_champion()
        return champion if wrong else None

    def check_changeable(self) -> None:
        """Raise an error if the store is read-only; this one is not."""

    def follow_challenger(self) -> None:
        """Update the challenger; nothing to do here."""

    def challenger(self) -> Version | None:
        """Return the newest version after the champion that passed the gate and has not served, or None."""
        now = self.champion()
        newer = [one for one in self.versions() if one.may_shadow and (now is None or one.number > now.version)]
        return newer[-1] if newer and (now is None or newer[-1].number != now.previous) else None

    def register(
        self, bundle: Path, report: Path, verdict: Verdict, *, by: str = "", key: Path | None = None
    ) -> Version:
        """Register a bundle as a new version, signed with the key if there is one; once for each verdict on it."""
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
                write_description(target, number=number, bundle=digest, created=utc_now_seconds(), by=by)
                if key is not None:
                    sign_version(target, key=key)
        return self.version(number)

    def promote(self, number: int, *, by: str, second_person: bool = False) -> Champion:
        """Make this version the champion, if the gate passed this bundle against the current champion."""
        with self._locked():
            version = self.version(number)
            self._check_may_serve(version)
            self._repair()
            now, _ = self._current_champion()
            if now is not None and now.version == number:
                return now
            check_up_to_date(version, now, self.reference())
            if second_person or version.verdict.gate.get("second_person"):
                check_second_person(version, by)
            return self._set_champion(version, previous=now.version if now else None, by=by)

    def rollback(self, *, by: str) -> Champion:
        """Make the previous version the champion again."""
        with self._locked():
            self._repair()
            now = self.champion()
            if now is None or now.previous is None:
                raise UserError("There is no previous version to roll back to.", "See `medloop models list`.")
            version = self.version(now.previous)
            self._check_may_serve(version)
            return self._set_champion(version, previous=now.version, by=by)

    def set_reference(self, number: int, *, by: str) -> Reference:
        """Make this version the reference version; this takes a second person."""
        with self._locked():
            self._repair()
            version, now = self.version(number), self.reference()
            if now is not None and now.version == number:
                return now
            check_may_be_reference(version, self.champion(), by)
            self._check_may_serve(version)
            return self._write_reference(
                Reference(version=number, bundle=version.bundle, since=utc_now_seconds(), by=by)
            )

    def migrate(self) -> Reference | None:
        """Record the reference version if an older medloop did not, and return it if it was recorded."""
        with self._locked():
            reference = self.reference()
            if reference is None or self._stored_reference() is not None:
                return None
            return self._write_reference(reference)

    def sign_anew(self, *, key: Path | None) -> tuple[list[int], list[str]]:
        """Sign versions of which only the bundle is signed; return those signed, and why others were not."""
        signed, not_signed = [], []
        with self._locked():
            for version in self.versions():
                folder = version.folder
                if (folder / VERSION_SIGNATURE).is_file() or not (folder / SIGNATURE).is_file():
                    continue
                if key is None or self.verify_key is None:
                    not_signed.append(f"version {version.number}: signing.key and signing.verify_key are not both set")
                elif problems := self._signature_problems(version, of_bundle=True) or find_problems(version):
                    not_signed += problems
                elif copies := find_copies(version, self.versions()):
                    not_signed += copies
                else:
                    add_number(version)
                    sign_version(folder, key=key)
                    signed.append(version.number)
        return signed, not_signed

    def check_signed(self, bundle: Path) -> None:
        """Raise BrokenBundle if signatures are required and the bundle has no valid one next to its folder."""
        if self.verify_key is not None:
            check_signature(bundle, bundle.parent / SIGNATURE, key=self.verify_key)

    def repair(self) -> str:
        """Rewrite a pointer that is damaged or older than the last promotion, and return what was done."""
        with self._locked():
            return self._repair()

    def verify(self) -> list[str]:
        """Repair the pointer and its copies, and return the problems of the store."""
        with self._locked():
            self._repair()
            readable, unreadable = self._readable()
            problems = [problem for version in readable for problem in self._problems(version)]
            problems += unreadable.values()
            champion, wrong = self._current_champion()
            if wrong:
                return [*problems, wrong]
            if champion is not None and champion.version not in unreadable:
                version = self.version(champion.version)
                if version.bundle != champion.bundle:
                    problems.append(f"{POINTER} names another bundle than that of version {champion.version}")
                problems += self._reference_problems()
                write_copies(self.folder, version, champion)
        return problems

    def _readable(self) -> tuple[list[Version], dict[int, str]]:
        """Return the readable versions, and why others are not."""
        readable, unreadable = [], {}
        for number in version_numbers(self.versions_folder):
            try:
                readable.append(self.version(number))
            except BrokenBundle as error:
                unreadable[number] = error.reason
        return readable, unreadable

    def _current_champion(self) -> tuple[Champion | None, str]:
        """Return the champion as far as it is known, and what is wrong with the pointer."""
        known = recorded_champion(self.folder)
        try:
            champion = self.champion()
        except UserError:
            if known is not None and self._may_serve(known):
                return known, f"{POINTER} is damaged"
            return None, f"{POINTER} is damaged, and {METADATA} does not name the version that served; promote one"
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
        champion, wrong = self._current_champion()
        if not wrong or champion is None:
            return wrong
        repaired = replace(champion, counter=next_counter(champion))
        write_json(self.folder / POINTER, asdict(repaired))
        write_copies(self.folder, self.version(repaired.version), repaired)
        return f"{wrong}; it was restored from {METADATA}: version {repaired.version} serves"

    def _reference_problems(self) -> list[str]:
        """Return what is wrong with the reference version; it is recorded if it was not."""
        try:
            reference = self.reference()
            if reference is not None and self._stored_reference() is None:
                self._write_reference(reference)
            if reference is None:
                return []
            version = self.version(reference.version)
        except UserError as error:
            return [f"{REFERENCE}: {error.reason}"]
        if version.bundle != reference.bundle:
            return [f"{REFERENCE} names another bundle than that of version {reference.version}"]
        return [] if version.verdict.passed else [f"{REFERENCE} names version {reference.version}, which was refused"]

    def _stored_reference(self) -> Reference | None:
        try:
            content = (self.folder / REFERENCE).read_bytes()
        except FileNotFoundError:
            return None
        return parse_reference(content)

    def _write_reference(self, reference: Reference) -> Reference:
        write_json(self.folder / REFERENCE, asdict(reference))
        return reference

    def _locked(self) -> Any:
        self.check_changeable()
        self.folder.mkdir(parents=True, exist_ok=True)
        return file_lock(self.folder / ".lock")

    def _check_may_serve(self, version: Version) -> None:
        if problems := find_problems(version):
            raise BrokenBundle(f"The version is damaged ({'; '.join(problems)}).", RESTORE)
        self._check_version_signed(version)
        check_binding(version.bundle, version.verdict)
        edition = files.read_meta(version.folder / "bundle")["edition"]
        if not version.verdict.passed or version.verdict.smoke or edition != version.verdict.edition:
            failed = [str(rule) for rule in version.verdict.rules if not rule.passed]
            failed = failed or ["a smoke run" if version.verdict.smoke else "the verdict is on another edition"]
            raise GateRefusal(
                f"Version {version.number} did not pass the gate: {'; '.join(failed)}.",
                "Fix what the gate reports and train again; its rules are in params.yaml, section gate.",
            )
        check_works(version.folder / "bundle")

    def _check_version_signed(self, version: Version) -> None:
        if self.verify_key is not None:
            check_version_signature(version, key=self.verify_key)

    def _problems(self, version: Version) -> list[str]:
        """Return how a version differs from what was registered and signed."""
        if problems := find_problems(version):
            return problems
        champion, _ = self._current_champion()
        is_needed = champion is not None and champion.version == version.number
        if is_needed or any((version.folder / name).is_file() for name in (SIGNATURE, VERSION_SIGNATURE)):
            return self._signature_problems(version)
        return []

    def _signature_problems(self, version: Version, *, of_bundle: bool = False) -> list[str]:
        try:
            self.check_signed(version.folder / "bundle") if of_bundle else self._check_version_signed(version)
        except BrokenBundle as error:
            return [f"version {version.number}: {error.reason}"]
        return []

    def _set_champion(self, version: Version, *, previous: int | None, by: str) -> Champion:
        before = (recorded_champion(self.folder), self._current_champion()[0])
        champion = Champion(
            version=version.number,
            bundle=version.bundle,
            previous=previous,
            promoted=utc_now_seconds(),
            by=by,
            counter=next_counter(*before),
        )
        if not (self.folder / POINTER).is_file():
            # Nothing was approved before: a reference left by a killed process does not count.
            self._write_reference(
                Reference(version=version.number, bundle=version.bundle, since=champion.promoted, by=by)
            )
        elif not (self.folder / REFERENCE).is_file() and (first := self.reference()) is not None:
            self._write_reference(first)
        write_json(self.folder / POINTER, asdict(champion))
        write_copies(self.folder, version, champion)
        return champion
