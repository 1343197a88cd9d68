"""The model store in an object store: copied there by whoever promotes, followed by services on other machines."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

from medloop.errors import BrokenBundle, UserError
from medloop.registry.contents import is_same_version
from medloop.registry.pointer import POINTER, champion_in, is_older, named_in, reference_in
from medloop.registry.reference import REFERENCE, Reference
from medloop.registry.signing import DESCRIPTION, VERSION_SIGNATURE
from medloop.registry.store import BROKEN, CHALLENGER, Champion, ModelStore, Numbered, Version
from medloop.settings import Settings
from medloop.storage import Limits, file_lock, place, sha256_bytes, write_json
from medloop.storage.objects import StorageAway, list_objects, read, upload, write

CACHE = "models-cache"
POINTER_SECONDS = 10.0
FILE_SECONDS = 60.0
# Object stores take money for every look.
WATCH_SECONDS = 5.0


class MirroredStore(ModelStore):
    """A model store that is followed from afar: what serves is brought into a folder, and nothing is changed here."""

    watch_seconds = WATCH_SECONDS

    def __init__(self, uri: str, folder: Path, *, limits: Limits, verify_key: Path | None = None) -> None:
        super().__init__(folder, verify_key=verify_key)
        self._uri, self._limits = uri.rstrip("/"), limits
        self._seen: bytes | None = None

    def pointer(self) -> bytes | None:
        """The pointer as it is there now."""
        return read(f"{self._uri}/{POINTER}", seconds=POINTER_SECONDS)

    def bring(self, champion: Champion) -> Path:
        """The bundle as it was promoted, downloaded where it is not here yet."""
        with file_lock(self.folder / ".lock"):
            try:
                return self._checked(champion)
            except BROKEN:
                self._fetch(champion.version)
            return self._checked(champion)

    def find(self, bundle: str, *, version: str) -> Path | None:
        """The folder of exactly this bundle, fetched where it is not here any more."""
        found = super().find(bundle, version=version)
        if found is not None or not version.isdigit() or not list_objects(f"{self._uri}/versions/{version}"):
            return found
        with file_lock(self.folder / ".lock"):
            self._fetch(int(version))
        return super().find(bundle, version=version)

    def kept(self) -> Champion | None:
        """What served here last, for the days when the object store is away."""
        try:
            return self.champion()
        except UserError:
            return None

    def keep(self, champion: Champion) -> None:
        """Remember what serves, and remove what did before its predecessor; nothing where a newer one is kept."""
        with file_lock(self.folder / ".lock"):
            if is_older(champion, self.kept()):
                return
            write_json(self.folder / POINTER, asdict(champion))
            shadowing = self.challenger()
            kept = {champion.version, champion.previous, shadowing.number if shadowing else None}
            for folder in self.versions_folder.iterdir():
                if folder.is_dir() and folder.name not in map(str, kept):
                    shutil.rmtree(folder)

    def follow_challenger(self) -> None:
        """Bring the version that may shadow, as the object store has it now; what is broken is tried once."""
        pointer = read(f"{self._uri}/{CHALLENGER}", seconds=POINTER_SECONDS)
        if pointer is None or pointer == self._seen:
            return
        seen, self._seen = self._seen, pointer
        try:
            self._bring_challenger(_challenger_in(pointer))
        except StorageAway:
            self._seen = seen
            raise

    def challenger(self) -> Version | None:
        """The version that may shadow, if it is here."""
        try:
            named = _challenger_in((self.folder / CHALLENGER).read_bytes())
        except (FileNotFoundError, UserError):
            return None
        champion = self.champion()
        if named is None or (champion is not None and champion.version == named.version):
            return None
        version = self._here(named)
        # A copy that an older medloop made may name one that the gate refused.
        return version if version is not None and version.may_shadow else None

    def reference(self) -> Reference | None:
        """The version that later ones are held against, as the object store has it now."""
        content = read(f"{self._uri}/{REFERENCE}", seconds=POINTER_SECONDS)
        return reference_in(content) if content is not None else None

    def check_changeable(self) -> None:
        """Always raises: the folder is a copy."""
        error = UserError(
            "versions are registered, promoted and rolled back where they are made",
            found="a service that follows a copy in an object store",
            hint="run `medloop models promote` or `medloop models rollback` in the project",
        )
        error.http_status = 409
        raise error

    def _fetch(self, number: int) -> None:
        place(f"{self._uri}/versions/{number}", self.versions_folder / str(number), limits=self._limits)

    def _bring_challenger(self, named: Numbered | None) -> None:
        with file_lock(self.folder / ".lock"):
            if named is not None and not self._is_whole(named):
                self._fetch(named.version)
            write_json(self.folder / CHALLENGER, asdict(named) if named else None)
        if named is not None and self._here(named) is None:
            raise BrokenBundle(
                "a challenger must be the bundle that was registered",
                found=f"other bytes in version {named.version}",
                hint="run `medloop models verify` in the project",
            )

    def _is_whole(self, named: Numbered) -> bool:
        """Whether the version is here and signed as the settings demand; its signature may have come later."""
        version = self._here(named)
        return version is not None and not self._signature_problems(version)

    def _here(self, named: Numbered) -> Version | None:
        try:
            version = self.version(named.version)
        except BROKEN:
            return None
        return version if version.numbered == named else None

    def _checked(self, champion: Champion) -> Path:
        version = self.version(champion.version)
        if version.bundle != champion.bundle:
            raise BrokenBundle(
                "a version must be the bundle that was promoted",
                found=f"other bytes in version {champion.version}",
                hint="run `medloop models verify` in the project",
            )
        self._check_may_serve(version)
        return version.folder / "bundle"


def open_store(settings: Settings, root: Path) -> ModelStore:
    """The model store that the settings name: a folder of the project, or a copy in an object store."""
    key = settings.signing.verify_key
    verify_key = root / key if key else None
    if "://" not in settings.models:
        return ModelStore(root / settings.models, verify_key=verify_key)
    if not settings.models.startswith("s3://"):
        raise UserError(
            "models must be a folder or an s3:// address",
            found=settings.models.partition("://")[0],
            hint="for instance models or s3://bucket/models",
        )
    storage = settings.storage
    limits = Limits(max_bytes=int(storage.max_gib * 2**30), max_entries=storage.max_entries)
    # Each address has a folder of its own: what served here last must be of the store that is named now.
    folder = root / settings.work / CACHE / sha256_bytes(settings.models.rstrip("/").encode())[:12]
    return MirroredStore(settings.models, folder, limits=limits, verify_key=verify_key)


def mirror_to(uri: str | None, store: ModelStore) -> str:
    """Copy what serves to an object store, if one is named; the words say how that went."""
    if uri is None or not (store.folder / POINTER).is_file():
        return ""
    try:
        publish(store, uri)
    except UserError as error:
        return f"not copied to {uri} ({error.found}); `medloop models verify` does it later"
    return f"copied to {uri}"


def publish(store: ModelStore, uri: str) -> None:
    """Copy what serves, then what may shadow it; each pointer goes last, so that it never names what is not there."""
    uri = uri.rstrip("/")
    # What is read under the lock is written under it, so that of two promotions the later one stays.
    with file_lock(store.folder / ".mirror.lock"):
        champion = store.champion()
        if champion is None:
            return
        _refuse_newer(champion, read(f"{uri}/{POINTER}", seconds=POINTER_SECONDS))
        _copy(store.version(champion.version), uri)
        upload([store.folder / POINTER], [f"{uri}/{POINTER}"])
        _publish_reference(store, uri)
        challenger = store.challenger()
        if challenger is not None:
            _copy(challenger, uri)
        write(f"{uri}/{CHALLENGER}", json.dumps(asdict(challenger.numbered) if challenger else None).encode())


def _publish_reference(store: ModelStore, uri: str) -> None:
    """Copy the reference version and what names it; a version that is damaged must not keep another from serving."""
    try:
        reference = store.reference()
        if reference is None:
            return
        version = store.version(reference.version)
    except BROKEN:
        return
    _copy(version, uri)
    write(f"{uri}/{REFERENCE}", json.dumps(asdict(reference)).encode())


def _challenger_in(pointer: bytes) -> Numbered | None:
    """The version that may shadow, if there is one."""
    if pointer.strip() == b"null":
        return None
    hint = "run `medloop models verify` in the project, which copies it again"
    return named_in(Numbered, pointer, problem=f"{CHALLENGER} does not say what may shadow.", hint=hint)


def _refuse_newer(champion: Champion, there: bytes | None) -> None:
    """Raise where the object store has a later promotion, as it does after a backup was restored here."""
    try:
        copied = champion_in(there) if there is not None else None
    except UserError:
        return
    if is_older(champion, copied):
        raise UserError(
            "The object store has a later promotion than this model store.",
            found="a newer pointer there",
            hint="promote or roll back here, which writes a newer one",
        )


def _copy(version: Version, store: str) -> None:
    """The description goes last, before it its signature: where they are, the version is whole."""
    uri = f"{store}/versions/{version.number}"
    there = list_objects(uri)
    description = version.folder / DESCRIPTION
    last = [name for name in (VERSION_SIGNATURE, DESCRIPTION) if (version.folder / name).is_file()]
    _refuse_another(version, f"{uri}/{DESCRIPTION}", description.read_bytes(), there)
    files = {
        f"{uri}/{path.relative_to(version.folder).as_posix()}": path
        for path in sorted(version.folder.rglob("*"))
        if path.is_file() and path.relative_to(version.folder).as_posix() not in last
    }
    missing = {name: path for name, path in files.items() if there.get(name) != path.stat().st_size}
    upload(list(missing.values()), list(missing))
    for name in last:
        upload([version.folder / name], [f"{uri}/{name}"])


def _refuse_another(version: Version, uri: str, ours: bytes, there: Mapping[str, int]) -> None:
    if uri in there and not _is_same(read(uri, seconds=FILE_SECONDS), ours):
        raise UserError(
            "a version that was copied must stay as it is",
            found=f"another version {version.number} there",
            hint="give each model store a place of its own: `mirror` in config.yaml",
        )


def _is_same(one: bytes | None, other: bytes) -> bool:
    try:
        return one is not None and is_same_version(json.loads(one), json.loads(other))
    except (ValueError, RecursionError):
        return False
