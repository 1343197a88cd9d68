"""Which model serves: a given bundle, or the champion of the model store, followed when it changes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from medloop.bundle.predictor import Predictor
from medloop.bundle.verify.probe import check_works
from medloop.errors import BrokenBundle, UserError
from medloop.registry.pointer import OlderPointer, parse_champion, refuse_older
from medloop.registry.store import BROKEN, ModelStore
from medloop.registry.version import Champion
from medloop.storage.objects import StorageAway

log = logging.getLogger("medloop.serve")

# A session on all cores is kept only if a single request takes at most this fraction of the time.
MAX_RELATIVE_TIME = 0.8
TIMED_RUNS = 3
RETRY_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A loaded bundle: a session for each thread, and perhaps one on all cores for a request that is alone."""

    predictor: Predictor
    wide: Predictor | None = None

    def for_request(self, *, alone: bool) -> Predictor:
        """Return the predictor to use for a request."""
        return self.wide if alone and self.wide else self.predictor


def load_model(folder: Path, *, threads: int, version: str | None = None) -> LoadedModel:
    """Load a bundle, run it on generated cases, and measure which sessions are worth their memory.

    It is tried in another process first, since a bundle that hangs there would hang here for good.
    """
    check_works(folder)
    predictor = Predictor.load(folder)
    predictor.version = version or predictor.version
    if threads == 1 or not predictor.is_image:
        return LoadedModel(predictor=predictor)
    wide = predictor.on_threads(folder, threads)
    example = predictor.example()
    is_faster = _measure_seconds(wide, example) < MAX_RELATIVE_TIME * _measure_seconds(predictor, example)
    return LoadedModel(predictor=predictor, wide=wide if is_faster else None)


def _measure_seconds(predictor: Predictor, example: bytes) -> float:
    durations = []
    for _ in range(TIMED_RUNS):
        started = time.perf_counter()
        predictor.predict([example], patients=[0])
        durations.append(time.perf_counter() - started)
    return min(durations)


def load_champion(store: ModelStore) -> Predictor:
    """Load the champion on a single session."""
    return ChampionWatcher(store, threads=1).load().predictor


class ChampionWatcher:
    """Follows the pointer of the model store; where the new champion cannot be loaded, the old one keeps serving."""

    def __init__(self, store: ModelStore, *, threads: int) -> None:
        self._store, self._threads = store, threads
        self._seen: bytes | None = None
        # The newest pointer that was followed; an older one is never accepted again.
        self._newest: Champion | None = None
        self._retry_at = 0.0
        self._is_away = False

    @property
    def watch_seconds(self) -> float:
        """Return the time between two checks, unless the settings define it."""
        return self._store.watch_seconds

    def load(self) -> LoadedModel:
        """Load the champion, or the last known one where the pointer cannot be followed."""
        fallback = self._store.fallback_champion()
        try:
            pointer = self._store.pointer()
            champion = require_champion(pointer)
            refuse_older(champion, fallback)
            model = self._load(champion)
        except BROKEN as error:
            if fallback is None:
                raise
            facts = {"kind": type(error).__name__, "version": str(fallback.version), "since": fallback.promoted}
            log.warning("the champion cannot be fetched; the last one that served here is used", extra=facts)
            self._is_away = isinstance(error, StorageAway)
            self._newest = fallback
            return self._load(fallback)
        self._seen, self._newest = pointer, champion
        return model

    def check(
        self, current: LoadedModel, *, activate: Callable[[LoadedModel], None], refuse: Callable[[str, str], None]
    ) -> None:
        """Load and activate the new champion if the pointer has changed; called periodically on a separate thread."""
        wanted, pointer = "unknown", self._seen
        try:
            pointer = self._store.pointer()
            self._note_storage(is_away=False)
            if pointer == self._seen and not (self._retry_at and time.monotonic() > self._retry_at):
                return
            champion = require_champion(pointer)
            wanted = str(champion.version)
            refuse_older(champion, self._newest)
            if (champion.bundle, wanted) != (current.predictor.hash, current.predictor.version):
                activate(self._load(champion))
            self._seen, self._newest, self._retry_at = pointer, champion, 0.0
        except StorageAway:
            self._note_storage(is_away=True)
        except BROKEN as error:
            # An older pointer does not become newer by waiting.
            retry_at = 0.0 if isinstance(error, OlderPointer) else time.monotonic() + RETRY_SECONDS
            self._seen, self._retry_at = pointer, retry_at
            refuse(wanted, type(error).__name__)

    def _load(self, champion: Champion) -> LoadedModel:
        folder = self._store.fetch_bundle(champion)
        model = load_model(folder, threads=self._threads, version=str(champion.version))
        if model.predictor.hash != champion.bundle:
            raise BrokenBundle(
                f"Version {champion.version} is not the bundle that was promoted.", "Run `medloop models verify`."
            )
        self._store.remember(champion)
        return model

    def _note_storage(self, *, is_away: bool) -> None:
        if is_away != self._is_away:
            log.warning(
                "the object store of the models is unavailable" if is_away else "the object store is available again"
            )
        self._is_away = is_away


def require_champion(pointer: bytes | None) -> Champion:
    """Return the champion that a pointer names, or raise an error if there is none."""
    if pointer is None:
        raise UserError(
            "No version has been promoted yet.",
            "Run `medloop run`, or serve a bundle without a model store: `medloop serve --bundle work/bundle`.",
        )
    return parse_champion(pointer)
