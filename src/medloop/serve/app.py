"""The FastAPI application: all routes, access control, error handlers and middleware."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager, nullcontext
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.middleware.cors import CORSMiddleware

from medloop import __version__
from medloop.registry.follow import ChampionWatcher
from medloop.serve.api import corrections, docs, health, home, models, predictions, results
from medloop.serve.api.route import SCHEMES, admit
from medloop.serve.api.schemas import CorrectBody, ReviewBody
from medloop.serve.http import errors
from medloop.serve.http.guard import Guard
from medloop.serve.lifecycle import running
from medloop.serve.service import Service
from medloop.serve.telemetry.tracing import open_tracing

# In the order of the OpenAPI document.
ROUTERS = (predictions.router, corrections.router, models.router, results.router, health.router, home.web)


def create_app(
    service: Service, *, hosts: Iterable[str] | None = None, watcher: ChampionWatcher | None = None
) -> FastAPI:
    """Return the application of one process, which closes the service when it ends; no `hosts` means any."""
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
        dependencies=[Depends(admit)],
        # FastAPI's own telemetry contains the messages of errors, and so may contain patient data.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
    )
    app.state.service, app.state.tracing = service, tracing
    for router in ROUTERS:
        app.include_router(router)
    docs.install(app)
    errors.install(app)
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]
    if limits.origins:
        app.add_middleware(
            CORSMiddleware, allow_origins=list(limits.origins), allow_methods=["GET", "POST"], allow_headers=["*"]
        )
    # Added last, so that it is the outermost.
    app.add_middleware(
        Guard,
        metrics=service.metrics,
        bodies=service.bodies,
        hosts=hosts,
        origins=limits.origins,
        log_requests=limits.log_requests,
        tracing=tracing,
    )
    return app


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        document = get_openapi(title=app.title, version=app.version, routes=app.routes)
        components = document.setdefault("components", {})
        components["securitySchemes"] = SCHEMES
        # FastAPI does not find the models that a dependency reads.
        components["schemas"] |= {model.__name__: model.model_json_schema() for model in (CorrectBody, ReviewBody)}
        app.openapi_schema = document
    return app.openapi_schema
