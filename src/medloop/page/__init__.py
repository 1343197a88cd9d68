"""Self-contained HTML pages from templates: one file, printable, with nothing loaded from elsewhere."""

from __future__ import annotations

import base64
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from medloop.storage.names import visible

if TYPE_CHECKING:
    from jinja2 import Environment

TEMPLATES = Path(__file__).parent / "templates"
# Numbers, intervals, and means with their standard deviations; such table cells are not broken over lines.
NUMERIC = re.compile(r"[-+0-9.,%±\[\] ]{1,40}")


def render(template: str, **values: object) -> str:
    """Return the page of a template; every value is escaped."""
    return environment().get_template(template).render(values)


@cache
def environment() -> Environment:
    """Return the Jinja2 environment of all pages."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    pages = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=_show_invisible,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    pages.filters["data_uri"] = data_uri
    pages.tests["numeric"] = is_numeric
    return pages


def data_uri(image: bytes) -> str:
    """Return a PNG or JPEG image as an address that holds the image itself."""
    kind = "image/jpeg" if image.startswith(b"\xff\xd8") else "image/png"
    return f"data:{kind};base64,{base64.b64encode(image).decode()}"


def is_numeric(text: str) -> bool:
    """Return whether a table cell holds only numbers or intervals."""
    return NUMERIC.fullmatch(text) is not None


def _show_invisible(value: object) -> object:
    """Write characters that are invisible or reverse the direction of text as escapes; keep markup from templates."""
    if isinstance(value, str) and not hasattr(value, "__html__"):
        return visible(value, keep="\n\t")
    return value
