"""What runs beside the requests: following the champion, and an end in order."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from medloop.errors import BrokenBundle
from medloop.serve.champion import Serving, Watcher
from medloop.serve.service import Service

log = logging.getLogger("medloop.serve")

SHOW_SECONDS = 1.0


@asynccontextmanager
async def running(service: Service, watcher: Watcher | None) -> AsyncIterator[None]:
    """Follows the champion until the last request is answered, then writes down what is left."""
    service.note("start", _what_serves(service))
    beside = [asyncio.create_task(_follow(service, watcher))] if watcher else []
    if service.measures.folder is not None:
        beside.append(asyncio.create_task(_show(service)))
    try:
        yield
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)
        service.note("stop", _what_serves(service))
        await asyncio.to_thread(service.close)


async def _follow(service: Service, watcher: Watcher) -> None:
    look = partial(watcher.look, take=partial(take, service), refuse=partial(refuse, service))
    while True:
        await asyncio.sleep(service.settings.serve.watch_seconds or watcher.seconds)
        try:
            await asyncio.to_thread(look, service.serving)
        except Exception as error:  # noqa: BLE001 - whatever a new version does, the old one goes on
            log.error("the champion cannot be followed", extra={"kind": type(error).__name__})  # noqa: TRY400


async def _show(service: Service) -> None:
    """Whichever process is asked for the figures must find those of this one."""
    while True:
        service.show()
        await asyncio.sleep(SHOW_SECONDS)


def _what_serves(service: Service) -> dict[str, str]:
    try:
        predictor = service.serving.predictor
    except BrokenBundle:
        return {}
    return {"version": predictor.version, "bundle": predictor.hash}


def take(service: Service, serving: Serving) -> None:
    """Another version answers from now on."""
    predictor = serving.predictor
    service.take(serving)
    service.measures.swaps.labels("taken").inc()
    service.note("swap", _what_serves(service))
    log.info("another version serves", extra={"version": predictor.version, "bundle": predictor.hash[:12]})


def refuse(service: Service, version: str, kind: str) -> None:
    """A version that cannot be loaded leaves the old one serving."""
    service.measures.swaps.labels("refused").inc()
    service.note("swap", {"version": version, "found": kind})
    log.error("a version cannot be loaded; the old one goes on", extra={"version": version, "kind": kind})
