"""Debian's Chromium, driven by Playwright."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.bundle.image_bundles import make_discs
from tests.loop_project import made_once

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser, started where a test asks for it; while it is open, no other test could run an event loop."""
    program = next(filter(None, map(shutil.which, PROGRAMS)), None)
    assert program, "the browser tests need Chromium (Debian, Ubuntu: apt-get install chromium)"
    # As root, Chromium has no sandbox of its own.
    flags = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright, playwright.chromium.launch(executable_path=program, args=flags) as chromium:
        yield chromium


@pytest.fixture(scope="session")
def image_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small network that finds bright discs; not to be changed."""
    return made_once(tmp_path_factory, "discs", make_discs) / "bundle"
