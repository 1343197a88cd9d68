"""The model store's copy in an object store: written on promotion, followed by services on other machines."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from medloop.errors import BrokenBundle, UserError
from medloop.registry.contents import is_same_version
from medloop.registry.pointer import POINTER, is_older, parse_champion, parse_named, parse_reference
from medloop.registry.reference import REFERENCE, Reference
from medloop.registry.signing import DESCRIPTION, VERSION_SIGNATURE
from medloop.registry.store import BROKEN, CHALLENGER, Champion, ModelStore, Numbered, Version
from medloop.settings import Settings
from medloop.storage import Limits, file_lock, place, sha256_bytes, write_json
from medloop.storage.objects import StorageAway, list_objects, read, upload, write

CACHE = "models-cache"
POINTER_TIMEOUT_S = 10.0
FILE_TIMEOUT_S = 60.0
# Requests to object stores cost money.
WATCH_SECONDS = 5.0


class MirroredStore(ModelStore):
    """A read-only copy of a model store: the version that serves is downloaded into a folder."""

    watch_seconds = WATCH_SECONDS

    def __init__(self, uri: str, folder: Path, *, limits: Limits, verify_key: Path | None = None) -> None:
        super().__init__(folder, verify_key=verify_key)
        self._uri, self._limits = uri.rstrip("/"), limits
        self._seen: bytes | None = None

    def pointer(self) -> bytes | None:
        """Return the current pointer in the object store."""
        return read(f"{self._uri}/{POINTER}", seconds=POINTER_TIMEOUT_S)

    def fetch_bundle(self, champion: Champion) -> Path:
        """Return the promoted bundle, downloaded if it is not here yet."""
        with file_lock(self.folder / ".lock"):
            try:
                return self._checked_bundle(champion)
            except BROKEN:
                self._fetch(champion.version)
            return self._checked_bundle(champion)

    def find(self, bundle: str, *, version: str) -> Path | None:
        """Return the folder of exactly this bundle, downloaded if it is no longer here."""
        found = super().find(bundle, version=version)
        if found is not None or not version.isdigit() or not list_objects(f"{self._uri}/versions/{version}"):
            return found
        with file_lock(self.folder / ".lock"):
            self._fetch(int(version))
        return super().find(bundle, version=version)

    def fallback_champion(self) -> Champion | None:
        """Return the last champion here, for use while the object store is unavailable."""
        try:
            return self.champion()
        except UserError:
            return None

    def remember(self, champion: Champion) -> None:
        """Remember the champion unless a newer one is known, and remove versions that are no longer needed."""
        with file_lock(self.folder / ".lock"):
            if is_older(champion, self.fallback_champion()):
                return
            write_json(self.folder / POINTER, asdict(champion))
            shadowing = self.challenger()
            kept = {champion.version, champion.previous, shadowing.number if shadowing else None}
            for folder in self.versions_folder.iterdir():
                if folder.is_dir() and folder.name not in map(str, kept):
                    shutil.rmtree(folder)

    def follow_challenger(self) -> None:
        """Download the current challenger; a broken one is tried only once."""
        pointer = read(f"{self._uri}/{CHALLENGER}", seconds=POINTER_TIMEOUT_S)
        if pointer is None or pointer == self._seen:
            return
        seen, self._seen = self._seen, pointer
        try:
            self._fetch_challenger(_parse_challenger(pointer))
        except StorageAway:
            self._seen = seen
            raise

    def challenger(self) -> Version | None:
        """Return the challenger if it is here."""
        try:
            named = _parse_challenger((self.folder / CHALLENGER).read_bytes())
        except (FileNotFoundError, UserError):
            return None
        champion = self.champion()
        if named is None or (champion is not None and champion.version == named.version):
            return None
        version = self._local_version(named)
        # A copy that an older medloop wrote may name one that the gate refused.
        return version if version is not None and version.may_shadow else None

    def reference(self) -> Reference | None:
        """Return the reference version in the object store, or None."""
        content = read(f"{self._uri}/{REFERENCE}", seconds=POINTER_TIMEOUT_S)
        return parse_reference(content) if content is not None else None

    def check_changeable(self) -> None:
        """Raise an error: the folder is a read-only copy."""
        error = UserError(
            "This service follows a copy of the model store, where nothing can be registered, promoted or rolled back.",
            "Run `medloop models promote` or `medloop models rollback` in the project.",
        )
        error.http_status = 409
        raise error

    def _fetch(self, number: int) -> None:
        place(f"{self._uri}/versions/{number}", self.versions_folder / str(number), limits=self._limits)

    def _fetch_challenger(self, named: Numbered | None) -> None:
        with file_lock(self.folder / ".lock"):
            if named is not None and not self._is_complete(named):
                self._fetch(named.version)
            write_json(self.folder / CHALLENGER, asdict(named) if named else None)
        if named is not None and self._local_version(named) is None:
            raise BrokenBundle(
                f"The copy of version {named.version}, the challenger, is not the bundle that was registered.",
                "Run `medloop models verify` in the project.",
            )

    def _is_complete(self, named: Numbered) -> bool:
        """Return whether the version is here and signed as required; its signature may be newer."""
        version = self._local_version(named)
        return version is not None and not self._signature_problems(version)

    def _local_version(self, named: Numbered) -> Version | None:
        try:
            version = self.version(named.version)
        except BROKEN:
            return None
        return version if version.numbered == named else None

    def _checked_bundle(self, champion: Champion) -> Path:
        version = self.version(champion.version)
        if version.bundle != champion.bundle:
            raise BrokenBundle(
                f"The copy of version {champion.version} is not the bundle that was promoted.",
                "Run `medloop models verify` in the project.",
            )
        self._check_may_serve(version)
        return version.folder / "bundle"


def open_store(settings: Settings, root: Path) -> ModelStore:
    """Open the model store in the settings: a folder of the project, or a copy in an object store."""
    key = settings.signing.verify_key
    verify_key = root / key if key else None
    if "://" not in settings.models:
        return ModelStore(root / settings.models, verify_key=verify_key)
    if not settings.models.startswith("s3://"):
        raise UserError(
            f"`models` has the unsupported scheme {settings.models.partition('://')[0]}.",
            "Use a folder or an s3:// address, such as models or s3://bucket/models.",
        )
    # A separate folder for each address, so that the last champion always belongs to the current store.
    folder = root / settings.work / CACHE / sha256_bytes(settings.models.rstrip("/").encode())[:12]
    return MirroredStore(settings.models, folder, limits=settings.storage.limits, verify_key=verify_key)


def mirror_to(uri: str | None, store: ModelStore) -> str:
    """Copy the champion to an object store, if one is set, and return what was done."""
    if uri is None or not (store.folder / POINTER).is_file():
        return ""
    try:
        publish(store, uri)
    except UserError as error:
        return f"not copied to {uri} ({error.reason}); `medloop models verify` retries it"
    return f"copied to {uri}"


def publish(store: ModelStore, uri: str) -> None:
    """Copy the champion, then the challenger; each pointer goes last, so that it never names a missing version."""
    uri = uri.rstrip("/")
    # Read and write under the same lock, so that the later of two promotions wins.
    with file_lock(store.folder / ".mirror.lock"):
        champion = store.champion()
        if champion is None:
            return
        _refuse_newer(champion, read(f"{uri}/{POINTER}", seconds=POINTER_TIMEOUT_S))
        _copy(store.version(champion.version), uri)
        upload([store.folder / POINTER], [f"{uri}/{POINTER}"])
        _publish_reference(store, uri)
        challenger = store.challenger()
        if challenger is not None:
            _copy(challenger, uri)
        write(f"{uri}/{CHALLENGER}", json.dumps(asdict(challenger.numbered) if challenger else None).encode())


def _publish_reference(store: ModelStore, uri: str) -> None:
    """Copy the reference version and its pointer; a damaged one must not keep the champion from serving."""
    try:
        reference = store.reference()
        if reference is None:
            return
        version = store.version(reference.version)
    except BROKEN:
        return
    _copy(version, uri)
    write(f"{uri}/{REFERENCE}", json.dumps(asdict(reference)).encode())


def _parse_challenger(pointer: bytes) -> Numbered | None:
    """Parse the pointer to the challenger, if there is one."""
    if pointer.strip() == b"null":
        return None
    hint = "Run `medloop models verify` in the project, which copies it again."
    return parse_named(Numbered, pointer, problem=f"{CHALLENGER} does not name a version.", hint=hint)


def _refuse_newer(champion: Champion, there: bytes | None) -> None:
    """Raise an error if the object store has a later promotion, as after a restore of a backup here."""
    try:
        copied = parse_champion(there) if there is not None else None
    except UserError:
        return
    if is_older(champion, copied):
        raise UserError(
            "The object store has a later promotion than this model store.",
            "Promote or roll back here, which writes a newer one.",
        )


def _copy(version: Version, store: str) -> None:
    """Copy a version, its signature and description last: where they exist, the version is complete."""
    uri = f"{store}/versions/{version.number}"
    there = list_objects(uri)
    description = version.folder / DESCRIPTION
    last = [name for name in (VERSION_SIGNATURE, DESCRIPTION) if (version.folder / name).is_file()]
    _refuse_replacement(version, f"{uri}/{DESCRIPTION}", description.read_bytes(), there)
    files = {
        f"{uri}/{path.relative_to(version.folder).as_posix()}": path
        for path in sorted(version.folder.rglob("*"))
        if path.is_file() and path.relative_to(version.folder).as_posix() not in last
    }
    missing = {name: path for name, path in files.items() if there.get(name) != path.stat().st_size}
    upload(list(missing.values()), list(missing))
    for name in last:
        upload([version.folder / name], [f"{uri}/{name}"])


def _refuse_replacement(version: Version, uri: str, ours: bytes, there: Mapping[str, int]) -> None:
    if uri in there and not _is_same(read(uri, seconds=FILE_TIMEOUT_S), ours):
        raise UserError(
            f"The object store already has a different version {version.number}.",
            "Use a separate address for each model store: `mirror` in config.yaml.",
        )


def _is_same(one: bytes | None, other: bytes) -> bool:
    try:
        return one is not None and is_same_version(json.loads(one), json.loads(other))
    except (ValueError, RecursionError):
        return False
