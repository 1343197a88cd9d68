"""Pages show any text as text and load nothing from elsewhere."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jinja2 import UndefinedError

from medloop import page

HOSTILE = "<script>alert(1)</script>\" onload='x' & <img src=http://a.example/x>"
# A page that uses each shared part.
EVERY_PART = """
{% extends "base.html" %}
{% from "parts.html" import badge, cards, gallery, image, table, warnings %}
{% block body %}
<h2>{{ text }}</h2><p>{{ text }}</p>{{ badge(text) }}{{ cards([(text, text)]) }}{{ warnings([text]) }}
{{ table([text, text], [[text, text]], badges=true) }}{{ table([text], [[text]]) }}
{{ image(b, text) }}{{ gallery([(b, text)]) }}
{% endblock %}
"""


class ParsedPage(HTMLParser):
    """The tags with their attributes, and the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


def fill(template: str, **values: object) -> str:
    return page.environment().from_string(template).render(values)


def page_with(text: str) -> str:
    """A page with the text in every place that takes one."""
    return fill(EVERY_PART, title=text, lead=text, text=text, b=b"png")


def structure(html: str) -> list[tuple[str, list[str]]]:
    """The tags and the names of their attributes but for the class, which may depend on the text."""
    return [(tag, sorted(set(attributes) - {"class"})) for tag, attributes in ParsedPage(html).tags]


@settings(deadline=None)
@given(text=st.text(alphabet=st.sampled_from("<>&\"'/=x -!;#`{}%\n")) | st.text())
def test_no_text_adds_a_tag_or_an_attribute(text: str) -> None:
    assert structure(page_with(text)) == structure(page_with("plain"))


def test_hostile_text_is_shown_literally() -> None:
    parsed = ParsedPage(page_with(HOSTILE))
    assert parsed.text.count("<script>alert(1)</script>") >= 10
    assert "script" not in {tag for tag, _ in parsed.tags}


def test_text_is_no_template() -> None:
    assert "{{ 7 * 7 }}" in ParsedPage(page_with("{{ 7 * 7 }}")).text


def test_invisible_and_reversing_characters_are_shown_as_escapes() -> None:
    html = page_with("a\u202eb\x1bc\u200bd")
    assert r"a\u202eb\x1bc\u200bd" in html
    assert not {"\u202e", "\x1b", "\u200b"} & set(html)


def test_a_page_loads_nothing_from_elsewhere() -> None:
    html = page_with("plain")
    parsed = ParsedPage(html)
    loaded = [attributes.get("src") or "" for _, attributes in parsed.tags if "src" in attributes]
    assert loaded
    assert all(source.startswith("data:image/png;base64,") for source in loaded)
    assert {tag for tag, _ in parsed.tags}.isdisjoint({"script", "link", "iframe", "object", "base"})
    assert "@import" not in html
    assert "url(" not in html


def test_a_page_names_its_language_and_encoding() -> None:
    html = page.render("base.html", title="Größe", lead="")
    assert html.startswith("<!doctype html>")
    assert '<html lang="en">' in html
    assert 'charset="utf-8"' in html
    assert "<h1>Größe</h1>" in html


def test_a_value_that_was_forgotten_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="lead"):
        page.render("base.html", title="x")


@pytest.mark.parametrize(("badges", "count"), [(True, 2), (False, 0)])
def test_the_first_column_can_be_badges(badges: bool, count: int) -> None:
    template = '{% from "parts.html" import table %}{{ table(["severity", "what"], rows, badges=badges) }}'
    html = fill(template, rows=[("severe", "a"), ("note", "b")], badges=badges)
    assert html.count('class="badge') == count


@pytest.mark.parametrize(
    ("text", "numeric"), [("0.91 [0.88, 0.94]", True), ("12.5%", True), ("0.9 ± 0.1", True), ("3 of 4", False)]
)
def test_numbers_and_intervals_are_not_broken_over_lines(text: str, numeric: bool) -> None:
    html = fill('{% from "parts.html" import table %}{{ table(["x"], [[text]]) }}', text=text)
    assert ('class="number"' in html) == numeric


@pytest.mark.parametrize(("start", "kind"), [(b"\x89PNG", "png"), (b"\xff\xd8", "jpeg")])
def test_an_image_is_part_of_the_page_and_its_caption_is_its_alternative_text(start: bytes, kind: str) -> None:
    template = '{% from "parts.html" import image %}{{ image(data, caption) }}'
    (_, (_, attributes), _) = ParsedPage(fill(template, data=start, caption='ROC "curve"')).tags
    assert attributes["alt"] == 'ROC "curve"'
    assert (attributes["src"] or "").startswith(f"data:image/{kind};base64,")


@pytest.mark.parametrize("path", sorted(page.TEMPLATES.rglob("*")), ids=lambda path: path.name)
def test_no_template_switches_escaping_off_or_loads_anything(path: Path) -> None:
    text = path.read_text("utf-8") if path.is_file() else ""
    for forbidden in ("| safe", "|safe", "autoescape", "<script", "<link", "http:", "https:", "url("):
        assert forbidden not in text
