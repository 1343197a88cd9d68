"""Writes the OpenAPI document of the service anew: `python -m tests.golden.make_openapi`."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

from medloop.feedback import open_feedback
from medloop.serve.app import create_app
from medloop.serve.service import Service
from medloop.settings import Settings

DOCUMENT = Path(__file__).with_name("openapi.json")


def document() -> dict[str, Any]:
    """What the service says of itself, without its version."""
    with tempfile.TemporaryDirectory() as folder:
        settings, root = Settings(), Path(folder)
        service = Service(settings, root=root, serving=None, feedback=open_feedback(settings.feedback, root=root))
        try:
            found: dict[str, Any] = create_app(service).openapi()
        finally:
            service.close()
    found["info"].pop("version")
    return found


if __name__ == "__main__":
    DOCUMENT.write_text(json.dumps(document(), indent=1, sort_keys=True) + "\n", encoding="utf-8")
