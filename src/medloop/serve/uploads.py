"""The files of a multipart body."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from medloop.errors import RejectedInput
from medloop.serve.refusals import TooLarge

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

LONGEST_NAME = 255


@dataclass(frozen=True, kw_only=True)
class Upload:
    """One file, under the name that its sender gave it."""

    name: str
    data: bytes


@dataclass(kw_only=True)
class _Part:
    head: dict[bytes, bytes] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)


def read_uploads(body: bytes | bytearray, content_type: str, *, most: int) -> list[Upload]:
    """Every file of the body, in order; fields that are no files, or where none was chosen, are passed over."""
    from python_multipart.exceptions import FormParserError
    from python_multipart.multipart import MultipartParser

    parts = _Parts(most)
    try:
        parser = MultipartParser(_boundary(content_type), parts.callbacks())
        parser.write(bytes(body))
        parser.finalize()
    except FormParserError:
        raise _malformed() from None
    if not parts.ended:
        raise _malformed()
    return [
        Upload(name=name[:LONGEST_NAME], data=bytes(part.data))
        for part in parts.all
        if (name := _file_name(part.head.get(b"content-disposition", b""))) is not None and (name or part.data)
    ]


class _Parts:
    """Gathers what the parser finds."""

    def __init__(self, most: int) -> None:
        self.all: list[_Part] = []
        self.ended = False
        self._most = most
        self._name, self._value = bytearray(), bytearray()

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_part_data": self._data,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.all) >= self._most:
            raise TooLarge(f"a request must hold at most {self._most} files", found="more", hint="send fewer at once")
        self.all.append(_Part())

    def _data(self, data: bytes, start: int, end: int) -> None:
        self.all[-1].data += data[start:end]

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        self.all[-1].head[bytes(self._name).lower()] = bytes(self._value)
        self._name, self._value = bytearray(), bytearray()

    def _end(self) -> None:
        self.ended = True


def _boundary(content_type: str) -> bytes:
    from python_multipart.multipart import parse_options_header

    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary or len(boundary) > 256:
        raise _malformed()
    return boundary


def _file_name(disposition: bytes) -> str | None:
    from python_multipart.multipart import parse_options_header

    name = parse_options_header(disposition)[1].get(b"filename")
    return None if name is None else name.decode("utf-8", "replace")


def _malformed() -> RejectedInput:
    return RejectedInput(
        "a multipart body must be whole and well formed", found="something else", hint="see /docs for the form"
    )
