"""The application: every route, behind one guard."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, nullcontext
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.middleware.cors import CORSMiddleware

from medloop import __version__
from medloop.serve import docs, errors
from medloop.serve.champion import Watcher
from medloop.serve.corrections import corrections
from medloop.serve.guard import Guard
from medloop.serve.home import web
from medloop.serve.lifecycle import running
from medloop.serve.predictions import hot, past
from medloop.serve.routes import SCHEMES
from medloop.serve.service import Service
from medloop.serve.shortcut import Shortcut
from medloop.serve.stored import stored
from medloop.serve.tracing import open_tracing
from medloop.serve.versions import versions
from medloop.serve.watching import watching


def create_app(service: Service, *, hosts: Iterable[str] | None = None, watcher: Watcher | None = None) -> FastAPI:
    """The application of one process; it closes the service when it ends. Without `hosts` any name is taken."""

    limits = service.settings.serve
    tracing = open_tracing(limits.otlp)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with tracing or nullcontext():
            async with running(service, watcher):
                yield

    app = FastAPI(
        title="medloop",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
        # What FastAPI would send by itself holds the words of errors, and so a patient's data.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.service, app.state.tracing = service, tracing
    for router in (hot, past, corrections, versions, stored, watching, web):
        app.include_router(router)
    docs.install(app)
    errors.install(app)
    app.openapi = lambda: _document(app)  # type: ignore[method-assign]
    app.add_middleware(Shortcut, routes=hot.routes)
    if limits.origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(limits.origins), allow_methods=["GET", "POST"], allow_headers=["*"]
        )
    app.add_middleware(
        Guard,
        measures=service.measures,
        hosts=hosts,
        origins=limits.origins,
        log_requests=limits.log_requests,
        tracing=tracing,
    )
    return app


def _document(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        document.setdefault("components", {})["securitySchemes"] = SCHEMES
        app.openapi_schema = document
    return app.openapi_schema
