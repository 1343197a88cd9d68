"""The files and patients of a multipart body."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from medloop.errors import RejectedInput
from medloop.feedback.records import check_text
from medloop.serve.http.refusals import SEE_DOCS, TooLarge

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

MAX_NAME_LENGTH = 255
MAX_PATIENT_LENGTH = 200
# For the headers of one part; files have limits of their own.
MAX_PART_HEAD_BYTES = 16_384
PATIENT = "patient"


@dataclass(frozen=True, kw_only=True)
class Upload:
    """One file, with the name that the client sent."""

    name: str
    data: bytes
    # As it was sent; only its keyed hash is stored.
    patient: str | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class Form:
    """The files of a form in their order, and the values of its fields `patient`."""

    files: list[Upload]
    patients: list[bytes] = field(default_factory=list, repr=False)

    def by_patient(self) -> list[Upload]:
        """Return the files with their patients: one value is for all files, several are one per file."""
        patients = self.patients * len(self.files) if len(self.patients) == 1 else self.patients
        if patients and len(patients) != len(self.files):
            raise RejectedInput(
                f"The form has {len(patients)} fields `patient` for {len(self.files)} files.",
                "Send the field once for all files, or once per file in their order.",
            )
        return [
            replace(file, patient=decode_patient(patient))
            for file, patient in zip(self.files, patients or [b""] * len(self.files), strict=True)
        ]


def decode_patient(patient: bytes) -> str | None:
    """Return the name or number of a patient as it was sent, or None if the field is empty."""
    try:
        text = patient.decode("utf-8").strip(" \x00")
    except UnicodeDecodeError:
        raise _unreadable("is not text in UTF-8") from None
    # It replaces a letter that was lost, so several names would look the same.
    if "\ufffd" in text:
        raise _unreadable("contains the replacement character U+FFFD")
    return check_text(text, what="`patient`", max_chars=MAX_PATIENT_LENGTH) if text else None


def _unreadable(problem: str) -> RejectedInput:
    return RejectedInput(f"The field `patient` {problem}.", "Send all letters of the name, in UTF-8.")


@dataclass(kw_only=True)
class _Part:
    head: dict[bytes, bytes] = field(default_factory=dict)
    pieces: list[bytes] = field(default_factory=list)


class FormReader:
    """Parses a multipart body piece by piece as it arrives, so that each file is in memory once."""

    def __init__(self, content_type: str, *, max_files: int) -> None:
        from python_multipart.multipart import MultipartParser

        self._max_files = max_files
        self._parts: list[_Part] = []
        self._ended = False
        self._name, self._value, self._head_bytes = bytearray(), bytearray(), 0
        self._parser = MultipartParser(_boundary(content_type), self._callbacks())

    def feed(self, piece: bytes) -> None:
        """Parse the next piece of the body."""
        from python_multipart.exceptions import FormParserError

        try:
            self._parser.write(piece)
        except FormParserError:
            raise _malformed() from None

    def form(self) -> Form:
        """Return the files in order and the fields `patient`; other fields, and empty file inputs, are ignored."""
        self._parser.finalize()
        if not self._ended:
            raise _malformed()
        form = Form(files=[])
        for part in self._parts:
            field_name, name = _parse_names(part.head.get(b"content-disposition", b""))
            data = b"".join(part.pieces)
            # A large file would be in memory twice otherwise.
            part.pieces.clear()
            if name is not None and (name or data):
                form.files.append(Upload(name=name[:MAX_NAME_LENGTH], data=data))
            elif name is None and field_name == PATIENT:
                form.patients.append(data)
        if len(form.files) > self._max_files:
            raise _too_many(self._max_files)
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
        # Each file may have its patient.
        if len(self._parts) >= 2 * self._max_files:
            raise _too_many(self._max_files)
        self._parts.append(_Part())
        self._head_bytes = 0

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._parts[-1].pieces.append(data[start:end])

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += self._count(data[start:end])

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += self._count(data[start:end])

    def _count(self, text: bytes) -> bytes:
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


def _parse_names(disposition: bytes) -> tuple[str, str | None]:
    """Return the name of the field, and that of the file if there is one."""
    from python_multipart.multipart import parse_options_header

    options = parse_options_header(disposition)[1]
    file = options.get(b"filename")
    field_name = options.get(b"name", b"").decode("utf-8", "replace")
    return field_name, None if file is None else file.decode("utf-8", "replace")


def _too_many(max_files: int) -> TooLarge:
    return TooLarge(f"The request has more than {max_files} files.", "Send fewer at once.")


def _malformed() -> RejectedInput:
    return RejectedInput("The multipart body is incomplete or malformed.", SEE_DOCS)
