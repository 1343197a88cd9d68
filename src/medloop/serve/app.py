"""The application: every route, behind one guard."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, nullcontext
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

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


class Application(FastAPI):
    """FastAPI behind layers of ours; its own take their time, and what is asked most does not come to them."""

    outermost: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["app"] = self
        await self.outermost(scope, receive, send)

    async def answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As FastAPI would."""
        await super().__call__(scope, receive, send)


def create_app(service: Service, *, hosts: Iterable[str] | None = None, watcher: Watcher | None = None) -> Application:
    """The application of one process; it closes the service when it ends. Without `hosts` any name is taken."""

    limits = service.settings.serve
    tracing = open_tracing(limits.otlp)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        with tracing or nullcontext():
            async with running(service, watcher):
                yield

    app = Application(
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
    layers: ASGIApp = Shortcut(app.answer, routes=hot.routes)
    if limits.origins:
        layers = CORSMiddleware(
            layers, allow_origins=list(limits.origins), allow_methods=["GET", "POST"], allow_headers=["*"]
        )
    app.outermost = Guard(
        layers,
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
