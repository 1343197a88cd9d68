"""The active version, the registered versions, and promotion."""

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
from medloop.serve.api.predictions import caller_of, service_of
from medloop.serve.api.route import ERRORS, requires
from medloop.serve.api.schemas import ChampionBody, ModelBody, VersionsBody
from medloop.storage import read_json

Number = Annotated[int, Path(ge=1, le=10**9)]
DURABLE_SECONDS = 30.0

log = logging.getLogger("medloop.serve")

router = APIRouter(responses={**ERRORS, 409: ERRORS[422]})


@router.get("/v1/model", response_model=ModelBody, openapi_extra=requires("reader"))
async def model(request: Request) -> Any:
    """Describe the active version and its inputs."""
    return model_body(service_of(request).serving.predictor)


@router.get("/v1/models", response_model=VersionsBody, openapi_extra=requires("reader"))
def models(request: Request) -> Any:
    """List the registered versions."""
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


@router.get("/v1/models/{number}/report", openapi_extra=requires("reader"))
def report(number: Number, request: Request) -> dict[str, Any]:
    """Return the evaluation report of a version."""
    content: dict[str, Any] = read_json(_existing(_folder(request, number) / "report" / "report.json"))
    return content


@router.get("/v1/models/{number}/card", response_class=PlainTextResponse, openapi_extra=requires("reader"))
def card(number: Number, request: Request) -> Response:
    """Return the model card of a version."""
    text = _existing(_folder(request, number) / "card.md").read_text("utf-8")
    return PlainTextResponse(text, media_type="text/markdown; charset=utf-8")


@router.get("/v1/models/{number}/verdict", openapi_extra=requires("reader"))
def verdict(number: Number, request: Request) -> dict[str, Any]:
    """Return the verdict of the gate on a version."""
    content: dict[str, Any] = read_json(_existing(_folder(request, number) / "verdict.json"))
    return content


@router.post("/v1/models/{number}/promote", response_model=ChampionBody, openapi_extra=requires("operator"))
def promote(number: Number, request: Request) -> Any:
    """Promote a version that passed the gate."""
    _store(request).check_changeable()
    _folder(request, number)
    return _record(request, _store(request).promote(number, by=caller_of(request).key.name), "promotion")


@router.post("/v1/models/rollback", response_model=ChampionBody, openapi_extra=requires("operator"))
def rollback(request: Request) -> Any:
    """Promote the previous champion again."""
    return _record(request, _store(request).rollback(by=caller_of(request).key.name), "rollback")


def model_body(predictor: Predictor) -> dict[str, Any]:
    """Return what clients may know about the bundle."""
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
        raise NotFound("The service serves a single bundle, not a model store.", "Start it without --bundle.")
    return store


def _folder(request: Request, number: int) -> FilePath:
    try:
        return _store(request).version(number).folder
    except UserError as error:
        raise NotFound(error.problem, error.hint) from error


def _existing(path: FilePath) -> FilePath:
    if not path.is_file():
        raise NotFound("This file is missing from the version.", "Run `medloop models verify`.")
    return path


def _record(request: Request, champion: Champion, kind: str) -> Champion:
    """Record a change of the champion before the response is sent; the service itself follows the pointer."""
    facts = {"version": str(champion.version), "bundle": champion.bundle, "by": champion.by}
    previous = None if champion.previous is None else str(champion.previous)
    service = service_of(request)
    service.feedback.note(kind, {**facts, "previous": previous}).result(DURABLE_SECONDS)
    if mirrored := mirror_to(service.settings.mirror, _store(request)):
        log.info("the promotion is %s", mirrored)
    return champion
