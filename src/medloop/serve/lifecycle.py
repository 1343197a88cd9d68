"""What runs next to the requests: following the champion, updating the gauges, and an orderly shutdown."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

from medloop.errors import BrokenBundle
from medloop.registry.follow import ChampionWatcher, LoadedModel
from medloop.serve.service import Service

log = logging.getLogger("medloop.serve")

GAUGE_SECONDS = 1.0


@asynccontextmanager
async def running(service: Service, watcher: ChampionWatcher | None) -> AsyncIterator[None]:
    """Follow the champion until the last request is answered, then store what is left."""
    service.note("start", _active_version(service))
    tasks = [asyncio.create_task(_follow(service, watcher))] if watcher else []
    if service.metrics.folder is not None:
        tasks.append(asyncio.create_task(_update_gauges(service)))
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        service.note("stop", _active_version(service))
        await asyncio.to_thread(service.close)


async def _follow(service: Service, watcher: ChampionWatcher) -> None:
    look = partial(watcher.check, activate=partial(activate, service), refuse=partial(keep_previous, service))
    while True:
        await asyncio.sleep(service.settings.serve.watch_seconds or watcher.watch_seconds)
        try:
            await asyncio.to_thread(look, service.serving)
        except Exception as error:  # noqa: BLE001 - a new version must not stop the active one
            log.error("the champion cannot be followed", extra={"kind": type(error).__name__})  # noqa: TRY400


async def _update_gauges(service: Service) -> None:
    """Update the gauges regularly, since another process may be asked for those of this one."""
    while True:
        service.update_gauges()
        await asyncio.sleep(GAUGE_SECONDS)


def _active_version(service: Service) -> dict[str, str]:
    try:
        predictor = service.serving.predictor
    except BrokenBundle:
        return {}
    return {"version": predictor.version, "bundle": predictor.hash}


def activate(service: Service, model: LoadedModel) -> None:
    """Switch to another version, and record that."""
    predictor = model.predictor
    service.activate(model)
    service.metrics.swaps.labels("taken").inc()
    service.note("swap", _active_version(service))
    log.info("switched to another version", extra={"version": predictor.version, "bundle": predictor.hash[:12]})


def keep_previous(service: Service, version: str, kind: str) -> None:
    """Record that a version could not be loaded; the previous one stays active."""
    service.metrics.swaps.labels("refused").inc()
    service.note("swap", {"version": version, "found": kind})
    log.error("a version cannot be loaded; the previous one stays active", extra={"version": version, "kind": kind})
