"""What other commands worked out and stored; the service shows it and computes nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request

from medloop.feedback.records import NotFound
from medloop.serve.predictions import service_of
from medloop.serve.routes import ERRORS, GuardedRoute, takes
from medloop.storage import read_json

stored = APIRouter(route_class=GuardedRoute, responses=ERRORS)


@stored.get("/v1/monitor", openapi_extra=takes("reader"))
def monitor(request: Request) -> dict[str, Any]:
    """What the last monitoring found."""
    return _shown(request, Path("monitor") / "monitor.json", hint="this version of medloop has no monitoring yet")


@stored.get("/v1/audit", openapi_extra=takes("reader"))
def audit(request: Request) -> dict[str, Any]:
    """What the last audit found."""
    return _shown(request, Path("audit") / "findings.json", hint="run `medloop audit`")


@stored.get("/v1/shadow", openapi_extra=takes("reader"))
def shadow(request: Request) -> dict[str, Any]:
    """How far the challenger agrees with what serves."""
    return _shown(request, Path("shadow") / "shadow.json", hint="register a version; it shadows until it is promoted")


def _shown(request: Request, place: Path, *, hint: str) -> dict[str, Any]:
    service = service_of(request)
    path = service.root / service.settings.work / place
    if not path.is_file():
        raise NotFound("something must have been stored", found="nothing yet", hint=hint)
    content: Any = read_json(path)
    return content if isinstance(content, dict) else {"content": content}
