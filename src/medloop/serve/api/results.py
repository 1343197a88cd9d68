"""Stored results of other commands: monitoring, audit and shadow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request

from medloop.feedback.records import NotFound
from medloop.serve.api.predictions import service_of
from medloop.serve.api.route import ERRORS, requires
from medloop.storage import read_json

router = APIRouter(responses=ERRORS)


@router.get("/v1/monitor", openapi_extra=requires("reader"))
def monitor(request: Request) -> dict[str, Any]:
    """Return the results of the last monitoring."""
    return _read(
        request, Path("monitor") / "monitor.json", "No monitoring results yet.", "This release has no monitoring."
    )


@router.get("/v1/audit", openapi_extra=requires("reader"))
def audit(request: Request) -> dict[str, Any]:
    """Return the findings of the last audit."""
    return _read(request, Path("audit") / "findings.json", "No audit findings yet.", "Run `medloop audit`.")


@router.get("/v1/shadow", openapi_extra=requires("reader"))
def shadow(request: Request) -> dict[str, Any]:
    """Return how far the challenger agrees with the active version."""
    return _read(
        request, Path("shadow") / "shadow.json", "No shadow results yet.", "Register a version that passes the gate."
    )


def _read(request: Request, place: Path, problem: str, hint: str) -> dict[str, Any]:
    service = service_of(request)
    path = service.root / service.settings.work / place
    if not path.is_file():
        raise NotFound(problem, hint)
    content: Any = read_json(path)
    return content if isinstance(content, dict) else {"content": content}
