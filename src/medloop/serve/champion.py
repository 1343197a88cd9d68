"""Which bundle serves: one given folder, or the champion of the model store, followed when it changes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from medloop.bundle.predictor import Predictor
from medloop.errors import BrokenBundle, UserError
from medloop.registry.store import POINTER, Champion, ModelStore

# A session on all cores is kept where one request alone is answered this much sooner by it.
WORTHWHILE = 0.8
TRIES = 3
RETRY_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Serving:
    """A loaded bundle on a session for each thread, and perhaps one on all cores for a request alone."""

    predictor: Predictor
    wide: Predictor | None = None

    def for_request(self, *, alone: bool) -> Predictor:
        """The predictor to ask."""
        return self.wide if alone and self.wide else self.predictor


def load_serving(folder: Path, *, threads: int, version: str | None = None) -> Serving:
    """Load, let it answer made-up cases, and measure which sessions are worth their memory."""
    predictor = Predictor.load(folder)
    predictor.version = version or predictor.version
    if threads == 1 or not predictor.is_image:
        return Serving(predictor=predictor)
    wide = predictor.on_threads(folder, threads)
    example = predictor.example()
    is_quicker = _seconds(wide, example) < WORTHWHILE * _seconds(predictor, example)
    return Serving(predictor=predictor, wide=wide if is_quicker else None)


def _seconds(predictor: Predictor, example: bytes) -> float:
    took = []
    for _ in range(TRIES):
        started = time.perf_counter()
        predictor.predict([example])
        took.append(time.perf_counter() - started)
    return min(took)


def load_predictor(bundle: Path | None, models: Path, *, verify_key: Path | None = None) -> Predictor:
    """The bundle in a folder, or the champion of the model store, signed where a key demands it."""
    if bundle is not None:
        return Predictor.load(bundle)
    store = ModelStore(models, verify_key=verify_key)
    champion = champion_of(store)
    predictor = Predictor.load(store.bundle(champion.version))
    predictor.version = str(champion.version)
    return predictor


def champion_of(store: ModelStore) -> Champion:
    """The champion, or an error that says how to get one."""
    champion = store.champion()
    if champion is None:
        raise UserError(
            "a model must have been promoted before it can serve",
            found="no champion in the model store",
            hint="run `medloop run`, or serve one bundle: `medloop serve --bundle work/bundle`",
        )
    return champion


class Watcher:
    """Follows the pointer of the model store; what cannot be loaded leaves the old version serving."""

    def __init__(self, store: ModelStore, *, threads: int) -> None:
        self._store, self._threads = store, threads
        self._seen: tuple[int, int] | None = None
        self._retry = 0.0

    def load(self) -> Serving:
        """What the pointer names now."""
        self._seen = self._stamp()
        champion = champion_of(self._store)
        folder = self._store.bundle(champion.version)
        serving = load_serving(folder, threads=self._threads, version=str(champion.version))
        if serving.predictor.hash != champion.bundle:
            raise BrokenBundle(
                "the champion must be the bundle that was promoted",
                found=f"other bytes in version {champion.version}",
                hint="see `medloop models verify`",
            )
        return serving

    def look(self, now: Serving, *, take: Callable[[Serving], None], refuse: Callable[[str, str], None]) -> None:
        """Takes the new champion where the pointer has changed; asked now and then, on a thread of its own."""
        stamp = self._stamp()
        if stamp == self._seen and not (self._retry and time.monotonic() > self._retry):
            return
        self._seen, self._retry = stamp, 0.0
        wanted = "unknown"
        try:
            champion = champion_of(self._store)
            wanted = str(champion.version)
            if (champion.bundle, wanted) != (now.predictor.hash, now.predictor.version):
                take(self.load())
        except (UserError, OSError, ValueError, TypeError, LookupError) as error:
            self._retry = time.monotonic() + RETRY_SECONDS
            refuse(wanted, type(error).__name__)

    def _stamp(self) -> tuple[int, int] | None:
        try:
            state = (self._store.folder / POINTER).stat()
        except OSError:
            return None
        return state.st_mtime_ns, state.st_ino
