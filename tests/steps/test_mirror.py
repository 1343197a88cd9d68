"""Promotions reach the object store as they reach MLflow, and one that did not is made up for by verifying."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from medloop.errors import UserError
from medloop.registry.follow import load_champion
from medloop.registry.mirror import open_store
from medloop.settings import Settings
from medloop.steps import versions
from medloop.steps.project import load_project
from medloop.storage import list_uris
from tests.storage.conftest import bucket, object_store

__all__ = ["bucket", "object_store"]

PLACE = "s3://scans/models"


def test_what_could_not_be_copied_is_copied_by_verify(
    project: Path, bucket: Callable[[str, bytes], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = yaml.safe_load((project / "config.yaml").read_text("utf-8"))
    (project / "config.yaml").write_text(yaml.safe_dump({**settings, "mirror": PLACE}), encoding="utf-8")
    loaded = load_project(project)
    with monkeypatch.context() as away:
        away.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
        away.setenv("AWS_MAX_ATTEMPTS", "1")
        said = versions.promote(loaded, 1)["mirror"]
    assert f"; not copied to {PLACE} (" in said
    assert said.endswith("; `medloop models verify` retries it")
    assert list(list_uris(PLACE)) == []
    assert versions.verify(loaded)[-1] == f"the champion is copied to {PLACE}"
    there = load_champion(open_store(Settings(models=PLACE), tmp_path / "elsewhere"))
    assert there.hash == load_champion(versions.store_of(loaded)).hash
    assert versions.promote(loaded, 1)["mirror"].endswith(f"; copied to {PLACE}")


def test_versions_are_not_made_where_they_only_serve(project: Path) -> None:
    (project / "config.yaml").write_text(yaml.safe_dump({"models": PLACE}), encoding="utf-8")
    with pytest.raises(UserError, match="versions can only be registered in a folder"):
        versions.promote(load_project(project), 1)
