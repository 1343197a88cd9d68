"""Pages: whatever text comes in is shown as text, and nothing is loaded from elsewhere."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from medloop import page

HOSTILE = "<script>alert(1)</script>\" onload='x' & <img src=http://a.example/x>"


class Seen(HTMLParser):
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


def whole(text: str) -> str:
    """A page with the text in every place that takes one."""
    return page.page(
        text,
        lead=text,
        body=[
            page.section(text, page.paragraph(text), page.paragraph(text, soft=True), page.badge(text)),
            page.table((text,), [(text, text)], badges=True),
            page.figures(page.figure(b"png", caption=text)),
            page.code(text),
            page.link(text, text),
        ],
    )


def shape(html: str) -> list[tuple[str, list[str]]]:
    """The tags and what they are given, besides the class, which may depend on the text."""
    return [(tag, sorted(set(attributes) - {"class"})) for tag, attributes in Seen(html).tags]


@settings(deadline=None)
@given(text=st.text(alphabet=st.sampled_from("<>&\"'/=x -!;#`\n")) | st.text())
def test_no_text_adds_a_tag_or_an_attribute(text: str) -> None:
    assert shape(whole(text)) == shape(whole("plain"))


def test_hostile_text_is_shown_as_it_is() -> None:
    seen = Seen(whole(HOSTILE))
    assert seen.text.count("<script>alert(1)</script>") >= 10
    assert "script" not in {tag for tag, _ in seen.tags}


def test_a_page_loads_nothing_from_elsewhere() -> None:
    seen = Seen(whole("plain"))
    loaded = [attributes.get("src") or "" for _, attributes in seen.tags if "src" in attributes]
    assert loaded
    assert all(source.startswith("data:image/png;base64,") for source in loaded)
    assert {tag for tag, _ in seen.tags}.isdisjoint({"script", "link", "iframe", "object", "base"})
    assert "@import" not in page.STYLE
    assert "url(" not in page.STYLE


def test_a_page_names_its_language_and_letters() -> None:
    html = page.page("Größe", lead="", body=[])
    assert html.startswith("<!doctype html>")
    assert '<html lang="en">' in html
    assert 'charset="utf-8"' in html
    assert "Größe" in html


@pytest.mark.parametrize(("badges", "count"), [(True, 2), (False, 0)])
def test_the_first_column_can_be_badges(badges: bool, count: int) -> None:
    html = page.table(("severity", "what"), [("severe", "a"), ("note", "b")], badges=badges)
    assert html.count('class="badge') == count


def test_a_picture_has_its_caption_for_those_who_do_not_see_it() -> None:
    assert 'alt="ROC &quot;curve&quot;"' in page.figure(b"", caption='ROC "curve"')
