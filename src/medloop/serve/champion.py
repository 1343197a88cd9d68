"""Which bundle serves: one given folder, or the champion of the model store, followed when it changes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from medloop.bundle.predictor import Predictor
from medloop.bundle.probe import check_works
from medloop.errors import BrokenBundle, UserError
from medloop.registry.store import BROKEN, Champion, ModelStore, OlderPointer, champion_in, refuse_older
from medloop.storage.objects import StorageAway

log = logging.getLogger("medloop.serve")

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
    """Load, let it answer made-up cases, and measure which sessions are worth their memory.

    It is tried in another process first: what hangs there would hang here for good.
    """
    check_works(folder)
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
        predictor.predict([example], patients=[0])
        took.append(time.perf_counter() - started)
    return min(took)


def load_champion(store: ModelStore) -> Predictor:
    """The champion on one session."""
    return Watcher(store, threads=1).load().predictor


class Watcher:
    """Follows the pointer of the model store; what cannot be loaded leaves the old version serving."""

    def __init__(self, store: ModelStore, *, threads: int) -> None:
        self._store, self._threads = store, threads
        self._seen: bytes | None = None
        # The newest pointer that was followed; an older one is never gone back to.
        self._newest: Champion | None = None
        self._retry = 0.0
        self._is_away = False

    @property
    def seconds(self) -> float:
        """How long to wait between two looks, unless the settings say."""
        return self._store.watch_seconds

    def load(self) -> Serving:
        """What the pointer names now, or the last champion that is known where the pointer cannot be followed."""
        kept = self._store.kept()
        try:
            pointer = self._store.pointer()
            champion = named_by(pointer)
            refuse_older(champion, kept)
            serving = self._load(champion)
        except BROKEN as error:
            if kept is None:
                raise
            facts = {"kind": type(error).__name__, "version": str(kept.version), "since": kept.promoted}
            log.warning("the champion cannot be fetched; the one that served here last goes on", extra=facts)
            self._is_away = isinstance(error, StorageAway)
            self._newest = kept
            return self._load(kept)
        self._seen, self._newest = pointer, champion
        return serving

    def look(self, now: Serving, *, take: Callable[[Serving], None], refuse: Callable[[str, str], None]) -> None:
        """Takes the new champion where the pointer has changed; asked now and then, on a thread of its own."""
        wanted, pointer = "unknown", self._seen
        try:
            pointer = self._store.pointer()
            self._say(is_away=False)
            if pointer == self._seen and not (self._retry and time.monotonic() > self._retry):
                return
            champion = named_by(pointer)
            wanted = str(champion.version)
            refuse_older(champion, self._newest)
            if (champion.bundle, wanted) != (now.predictor.hash, now.predictor.version):
                take(self._load(champion))
            self._seen, self._newest, self._retry = pointer, champion, 0.0
        except StorageAway:
            self._say(is_away=True)
        except BROKEN as error:
            # Time makes no pointer newer.
            again = 0.0 if isinstance(error, OlderPointer) else time.monotonic() + RETRY_SECONDS
            self._seen, self._retry = pointer, again
            refuse(wanted, type(error).__name__)

    def _load(self, champion: Champion) -> Serving:
        folder = self._store.bring(champion)
        serving = load_serving(folder, threads=self._threads, version=str(champion.version))
        if serving.predictor.hash != champion.bundle:
            raise BrokenBundle(
                "the champion must be the bundle that was promoted",
                found=f"other bytes in version {champion.version}",
                hint="see `medloop models verify`",
            )
        self._store.keep(champion)
        return serving

    def _say(self, *, is_away: bool) -> None:
        if is_away != self._is_away:
            log.warning("the object store of the models is away" if is_away else "the object store answers again")
        self._is_away = is_away


def champion_of(store: ModelStore) -> Champion:
    """The champion, or an error that says how to get one."""
    return named_by(store.pointer())


def named_by(pointer: bytes | None) -> Champion:
    """What the pointer says, or an error that says how to get one."""
    if pointer is None:
        raise UserError(
            "a model must have been promoted before it can serve",
            found="no champion in the model store",
            hint="run `medloop run`, or serve one bundle: `medloop serve --bundle work/bundle`",
        )
    return champion_in(pointer)
