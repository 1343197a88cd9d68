"""The files of a multipart body."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from medloop.errors import RejectedInput
from medloop.feedback.texts import check_text
from medloop.serve.refusals import TooLarge

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

LONGEST_NAME = 255
LONGEST_PATIENT = 200
# The headers of one part; the rest of a body is files, which have their own limits.
MAX_PART_HEAD_BYTES = 16_384
PATIENT = "patient"


@dataclass(frozen=True, kw_only=True)
class Upload:
    """One file, under the name that its sender gave it."""

    name: str
    data: bytes
    # As it was sent; nothing but its keyed hash goes any further.
    patient: str | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class Form:
    """The files of a form in their order, and what its fields say of patients."""

    files: list[Upload]
    patients: list[bytes] = field(default_factory=list, repr=False)

    def by_patient(self) -> list[Upload]:
        """The files with their patients: one is that of all files, several are one for each."""
        patients = self.patients * len(self.files) if len(self.patients) == 1 else self.patients
        if patients and len(patients) != len(self.files):
            raise RejectedInput(
                "the field `patient` must be sent once for all files or once for each",
                found=f"{len(patients)} patients for {len(self.files)} files",
                hint="send as many as files, in their order",
            )
        return [
            replace(file, patient=name_of(patient))
            for file, patient in zip(self.files, patients or [b""] * len(self.files), strict=True)
        ]


def name_of(patient: bytes) -> str | None:
    """A patient's name or number as it was sent; nothing where the field is empty."""
    try:
        text = patient.decode("utf-8").strip(" \x00")
    except UnicodeDecodeError:
        raise _unreadable("another encoding") from None
    # It stands for a letter that was lost, and so for many names.
    if "\ufffd" in text:
        raise _unreadable("the character U+FFFD")
    return check_text(text, what="`patient`", longest=LONGEST_PATIENT) if text else None


def _unreadable(found: str) -> RejectedInput:
    return RejectedInput("`patient` must be a text in UTF-8", found=found, hint="send all its letters, in UTF-8")


@dataclass(kw_only=True)
class _Part:
    head: dict[bytes, bytes] = field(default_factory=dict)
    pieces: list[bytes] = field(default_factory=list)


class FormReader:
    """Reads a multipart body piece by piece as it arrives, so that each file is held once."""

    def __init__(self, content_type: str, *, most: int) -> None:
        from python_multipart.multipart import MultipartParser

        self._most = most
        self._parts: list[_Part] = []
        self._ended = False
        self._name, self._value, self._head_bytes = bytearray(), bytearray(), 0
        self._parser = MultipartParser(_boundary(content_type), self._callbacks())

    def feed(self, piece: bytes) -> None:
        """Take the next piece of the body."""
        from python_multipart.exceptions import FormParserError

        try:
            self._parser.write(piece)
        except FormParserError:
            raise _malformed() from None

    def form(self) -> Form:
        """Every file in order, and the fields `patient`; others, or where none was chosen, are passed over."""
        self._parser.finalize()
        if not self._ended:
            raise _malformed()
        form = Form(files=[])
        for part in self._parts:
            field_name, name = _names(part.head.get(b"content-disposition", b""))
            data = b"".join(part.pieces)
            # Else a large file would be held twice.
            part.pieces.clear()
            if name is not None and (name or data):
                form.files.append(Upload(name=name[:LONGEST_NAME], data=data))
            elif name is None and field_name == PATIENT:
                form.patients.append(data)
        if len(form.files) > self._most:
            raise _too_many(self._most)
        return form

    def _callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_part_data": self._data,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        # A file and its patient each.
        if len(self._parts) >= 2 * self._most:
            raise _too_many(self._most)
        self._parts.append(_Part())
        self._head_bytes = 0

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._parts[-1].pieces.append(data[start:end])

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += self._counted(data[start:end])

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += self._counted(data[start:end])

    def _counted(self, text: bytes) -> bytes:
        self._head_bytes += len(text)
        if self._head_bytes > MAX_PART_HEAD_BYTES:
            raise _malformed()
        return text

    def _header_end(self) -> None:
        self._parts[-1].head[bytes(self._name).lower()] = bytes(self._value)
        self._name, self._value = bytearray(), bytearray()

    def _end(self) -> None:
        self._ended = True


def _boundary(content_type: str) -> bytes:
    from python_multipart.multipart import parse_options_header

    boundary = parse_options_header(content_type)[1].get(b"boundary")
    if not boundary or len(boundary) > 256:
        raise _malformed()
    return boundary


def _names(disposition: bytes) -> tuple[str, str | None]:
    """The name of the field, and that of the file where there is one."""
    from python_multipart.multipart import parse_options_header

    options = parse_options_header(disposition)[1]
    file = options.get(b"filename")
    field_name = options.get(b"name", b"").decode("utf-8", "replace")
    return field_name, None if file is None else file.decode("utf-8", "replace")


def _too_many(most: int) -> TooLarge:
    return TooLarge(f"a request must hold at most {most} files", found="more", hint="send fewer at once")


def _malformed() -> RejectedInput:
    return RejectedInput(
        "a multipart body must be whole and well formed", found="something else", hint="see /docs for the form"
    )
