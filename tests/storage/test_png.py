"""The chunks of a PNG are found up to its end, and no further than the file reaches."""

from __future__ import annotations

import pytest

from medloop.storage.png import SIGNATURE, png_chunks
from tests.decode.picture_files import grey, png

PICTURE = png(grey())


def test_the_chunks_are_the_whole_file_in_order() -> None:
    chunks = list(png_chunks(PICTURE))
    assert [chunk.name for chunk in (chunks[0], chunks[-1])] == [b"IHDR", b"IEND"]
    assert SIGNATURE + b"".join(PICTURE[chunk.start : chunk.end] for chunk in chunks) == PICTURE
    assert len(chunks[0].content(PICTURE)) == 13


def test_what_follows_the_end_is_left_alone() -> None:
    assert [*png_chunks(PICTURE + PICTURE)] == [*png_chunks(PICTURE)]


@pytest.mark.parametrize("cut", [1, 4, 12, 13, 30])
def test_a_file_that_is_cut_off_does_not_reach_its_end(cut: int) -> None:
    assert b"IEND" not in [chunk.name for chunk in png_chunks(PICTURE[:-cut])]
