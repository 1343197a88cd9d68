"""The upload page in a real browser: chosen files and typed values get a prediction."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.bundle.image_bundles import draw_discs, png
from tests.serve.processes import Running, serving

MILLISECONDS = 120_000
VALUES = {"age (years)": "50", "Größe, cm": "10.5", "c0": "1", "one": "0", "label": "left", "prepare/variable": "I"}


@pytest.fixture(scope="module", params=["keys", "no keys"])
def access(request: pytest.FixtureRequest) -> list[str]:
    return ["--no-auth"] if request.param == "no keys" else []


@pytest.fixture(scope="module")
def images(image_bundle: Path, access: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving("--bundle", image_bundle, *access, cwd=tmp_path_factory.mktemp("images")) as service:
        yield service


@pytest.fixture(scope="module")
def table(golden: Path, access: list[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with serving("--bundle", golden, *access, cwd=tmp_path_factory.mktemp("table")) as service:
        yield service


@contextmanager
def opened(browser: Browser, service: Running, *, scripts: bool) -> Iterator[Page]:
    """The page, with the key as the password; errors in the browser's console fail the test."""
    password = {"username": "me", "password": service.key}
    context = browser.new_context(java_script_enabled=scripts, http_credentials=password if service.key else None)
    context.set_default_timeout(MILLISECONDS)
    page = context.new_page()
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    try:
        answer = page.goto(service.address)
        assert answer is not None
        assert answer.status == 200
        yield page
        # Failed requests do not count: the tests check them, and the first request has no password yet.
        assert [text for text in complaints if not text.startswith("Failed to load resource")] == []
    finally:
        context.close()


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_a_scan_that_is_chosen_gets_its_class(images: Running, browser: Browser, scripts: bool) -> None:
    scan, name = png(draw_discs(1, seed=11)[0].pixels), "<scan> \N{LATIN SMALL LETTER U WITH DIAERESIS}.png"
    with opened(browser, images, scripts=scripts) as page:
        file = {"name": name, "mimeType": "image/png", "buffer": scan}
        page.get_by_label("Choose scans").set_input_files([file, {**file, "name": "b.png", "buffer": b"%PDF"}])
        with page.expect_navigation() as navigation:
            page.get_by_role("button", name="Predict").click()
        assert navigation.value.status == 200
        expect(page.locator(".answer")).to_have_count(2)
        expect(page.locator(".answer").first).to_contain_text(name)
        expect(page.locator(".answer.refused")).to_contain_text("Rejected")
        expect(page.locator(".answer meter")).to_have_count(2)
        expect(page.locator(".answer img")).to_be_visible()


@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_typed_values_get_a_class_and_errors_are_shown(table: Running, browser: Browser, scripts: bool) -> None:
    with opened(browser, table, scripts=scripts) as page:
        for name, text in VALUES.items():
            page.get_by_label(name, exact=True).fill(text)
        with page.expect_navigation() as navigation:
            page.get_by_role("button", name="Predict").click()
        assert navigation.value.status == 200
        expect(page.locator(".answer .class")).to_have_count(1)
        expect(page.locator(".answer .values")).to_contain_text("10.5")
        page.get_by_label("one", exact=True).fill("1,234")
        with page.expect_navigation():
            page.get_by_role("button", name="Predict").click()
        expect(page.locator(".answer.refused")).to_contain_text("1,234")


@contextmanager
def another_site(page: str) -> Iterator[str]:
    """Another site that serves this page."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = page.encode()
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://localhost:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def test_the_form_of_another_site_is_refused_although_the_browser_knows_the_key(
    table: Running, browser: Browser
) -> None:
    fields = "".join(f'<input name="{name}" value="{text}">' for name, text in VALUES.items())
    form = f'<form method="post" action="{table.address}/">{fields}<button>Win</button></form>'
    with another_site(form) as site, opened(browser, table, scripts=True) as page:
        page.goto(site)
        with page.expect_navigation() as navigation:
            page.get_by_role("button", name="Win").click()
        assert navigation.value.status == 403
        assert "pages of other sites" in navigation.value.text()
        page.goto("about:blank")
