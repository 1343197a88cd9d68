"""What serves, what else is registered, and which of it should serve."""

from __future__ import annotations

import logging
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, Path, Request
from fastapi.responses import PlainTextResponse, Response

from medloop.bundle.predictor import Predictor
from medloop.errors import UserError
from medloop.feedback.records import NotFound
from medloop.registry.mirror import mirror_to
from medloop.registry.store import Champion, ModelStore
from medloop.serve.predictions import asker_of, service_of
from medloop.serve.routes import ERRORS, GuardedRoute, takes
from medloop.serve.schemas import ChampionBody, ModelBody, VersionsBody
from medloop.storage import read_json

Number = Annotated[int, Path(ge=1, le=10**9)]
DURABLE_SECONDS = 30.0

log = logging.getLogger("medloop.serve")

versions = APIRouter(route_class=GuardedRoute, responses={**ERRORS, 409: ERRORS[422]})


@versions.get("/v1/model", response_model=ModelBody, openapi_extra=takes("reader"))
async def model(request: Request) -> Any:
    """What serves, and what it wants."""
    return model_body(service_of(request).serving.predictor)


@versions.get("/v1/models", response_model=VersionsBody, openapi_extra=takes("reader"))
def models(request: Request) -> Any:
    """Every registered version."""
    store = _store(request)
    champion = store.champion()
    serves = champion.version if champion else None
    return {
        "versions": [
            {
                "version": one.number,
                "bundle": one.bundle,
                "created": one.created,
                "gate": "passed" if one.verdict.passed else "refused",
                "is_champion": one.number == serves,
            }
            for one in store.versions()
        ]
    }


@versions.get("/v1/models/{number}/report", openapi_extra=takes("reader"))
def report(number: Number, request: Request) -> dict[str, Any]:
    """What a version scored, with intervals."""
    content: dict[str, Any] = read_json(_present(_folder(request, number) / "report" / "report.json"))
    return content


@versions.get("/v1/models/{number}/card", response_class=PlainTextResponse, openapi_extra=takes("reader"))
def card(number: Number, request: Request) -> Response:
    """What a version is for, in words."""
    text = _present(_folder(request, number) / "card.md").read_text("utf-8")
    return PlainTextResponse(text, media_type="text/markdown; charset=utf-8")


@versions.get("/v1/models/{number}/verdict", openapi_extra=takes("reader"))
def verdict(number: Number, request: Request) -> dict[str, Any]:
    """What the gate said of a version."""
    content: dict[str, Any] = read_json(_present(_folder(request, number) / "verdict.json"))
    return content


@versions.post("/v1/models/{number}/promote", response_model=ChampionBody, openapi_extra=takes("operator"))
def promote(number: Number, request: Request) -> Any:
    """Let a version serve that the gate passed."""
    _store(request).check_changeable()
    _folder(request, number)
    return _noted(request, _store(request).promote(number, by=asker_of(request).key.name), "promotion")


@versions.post("/v1/models/rollback", response_model=ChampionBody, openapi_extra=takes("operator"))
def rollback(request: Request) -> Any:
    """Let the version serve that served before."""
    return _noted(request, _store(request).rollback(by=asker_of(request).key.name), "rollback")


def model_body(predictor: Predictor) -> dict[str, Any]:
    """What a client may know of the bundle."""
    meta = predictor.meta
    preparer = meta["preparer"]
    return {
        "name": meta["name"],
        "version": predictor.version,
        "bundle": predictor.hash,
        "classes": meta["classes"],
        "positive": meta["positive"],
        "threshold": meta["threshold"]["value"],
        "threshold_rule": meta["threshold"]["rule"],
        "per": predictor.decider.per,
        "combine": predictor.decider.rule if predictor.needs_patients else None,
        "kind": preparer["kind"],
        "columns": preparer.get("columns", []),
        "input": {name: preparer[name] for name in ("size", "channels", "fit")} if predictor.is_image else None,
        "data_version": meta["data_version"],
        "edition": meta["edition"],
        "created": meta["created"],
    }


def _store(request: Request) -> ModelStore:
    store = service_of(request).store
    if store is None:
        raise NotFound("the service must follow a model store", found="one bundle", hint="leave out --bundle")
    return store


def _folder(request: Request, number: int) -> FilePath:
    try:
        return _store(request).version(number).folder
    except UserError as error:
        raise NotFound(error.must, found=error.found, hint=error.hint) from error


def _present(path: FilePath) -> FilePath:
    if not path.is_file():
        raise NotFound("a version must hold what is asked for", found="nothing", hint="see `medloop models verify`")
    return path


def _noted(request: Request, champion: Champion, kind: str) -> Champion:
    """Written down before it is told; the service itself follows the pointer."""
    facts = {"version": str(champion.version), "bundle": champion.bundle, "by": champion.by}
    previous = None if champion.previous is None else str(champion.previous)
    service = service_of(request)
    service.feedback.note(kind, {**facts, "previous": previous}).result(DURABLE_SECONDS)
    if copied := mirror_to(service.settings.mirror, _store(request)):
        log.info("the promotion is %s", copied)
    return champion
