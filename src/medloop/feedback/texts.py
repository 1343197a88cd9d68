"""What people may write: short, and nothing that a terminal, a page or a log could misread."""

from __future__ import annotations

import re

from medloop.errors import RejectedInput

# Control characters but the line's end, lone surrogates, and marks that turn the direction of what follows.
MISLEADING = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\ud800-\udfff\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def check_text(text: str, *, what: str, longest: int, lines: bool = False) -> str:
    """The text, if it is one that may be stored and shown."""
    found = None
    if not text.strip():
        found = "nothing"
    elif len(text) > longest:
        found = f"{len(text)} letters"
    elif (misleading := MISLEADING.search(text)) or (not lines and "\n" in text):
        found = f"the character U+{ord(misleading[0]):04X}" if misleading else "several lines"
    if found is not None:
        raise RejectedInput(
            f"{what} must be a text of at most {longest} letters without control characters",
            found=found,
            hint="shorten it, or type it anew",
        )
    return text
