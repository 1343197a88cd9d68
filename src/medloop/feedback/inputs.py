"""The inputs of answers, as PNG files named after their content, for as long as the settings say."""

from __future__ import annotations

import os
import re
import secrets
import struct
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from medloop.case import Row
from medloop.errors import UserError
from medloop.feedback.records import FeedbackAway, StoredPrediction
from medloop.feedback.room import check_room, write_private
from medloop.storage import open_uri, sha256_bytes
from medloop.storage.objects import list_objects, remove_older, upload

PNG = b"\x89PNG\r\n\x1a\n"
# What a picture needs; a comment, a date or a camera's name would be somebody's data.
PICTURE_CHUNKS = {b"IHDR", b"PLTE", b"tRNS", b"IDAT", b"IEND"}
ADDRESS = re.compile("[0-9a-f]{64}")
DAY_S = 86_400
# What may wait while the object store is away.
OUTBOX = 20_000


def check_png(data: bytes) -> None:
    """Refuse what is no PNG, or a PNG that carries more than its picture."""
    found, place = "another format", len(PNG)
    if data.startswith(PNG):
        found = "a broken one"
        while place + 12 <= len(data):
            length, name = struct.unpack_from(">I4s", data, place)
            place += 12 + length
            if name not in PICTURE_CHUNKS:
                found = f"a chunk {name.decode('latin-1')!r}"
                break
            if name == b"IEND" and place == len(data):
                return
    raise UserError("a kept input must be a PNG of pixels alone", found=found, hint="write the pixels anew")


class Inputs:
    """A folder of inputs."""

    def __init__(self, folder: Path, *, days: int) -> None:
        self.folder, self.days = folder, days
        # Why the last picture could not be kept.
        self.fault: str | None = None

    def put(self, data: bytes) -> str:
        """Keep a picture, and return its address; the same picture is kept once, and longer."""
        check_png(data)
        address = sha256_bytes(data)
        try:
            self._keep(address, data)
        except OSError as error:
            why = error.strerror or type(error).__name__
            self.fault = f"inputs cannot be kept ({why})"
            raise FeedbackAway(
                "The input of the answer could not be kept, so there is no answer",
                found=why,
                hint="make room in the folder of feedback.inputs, or set feedback.keep_inputs to false",
            ) from error
        return address

    def _keep(self, address: str, data: bytes) -> None:
        try:
            # By its name, since making a Path takes longer than the call.
            os.utime(self._name(address))
        except FileNotFoundError:
            path = self._path(address)
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.parent.mkdir(exist_ok=True, mode=0o700)
            # Not synced: a kill loses nothing, and what a power cut spoils does not have its name's hash.
            write_private(path.with_name(f".{secrets.token_hex(8)}.partial"), data).replace(path)

    def get(self, address: str) -> bytes | None:
        """The picture of this address; None where it was not kept, or not for so long."""
        if ADDRESS.fullmatch(address) is None:
            return None
        try:
            data = self._path(address).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise FeedbackAway(
                "The input cannot be read", found=error.strerror or "no more is known", hint="check feedback.inputs"
            ) from error
        return checked(data, address)

    def expire(self) -> int:
        """Remove what has been kept for long enough; how many that were."""
        oldest = time.time() - self.days * DAY_S
        count = 0
        for path in self.folder.glob("[0-9a-f][0-9a-f]/*"):
            # Another process may be quicker.
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest:
                    path.unlink()
                    count += 1
        return count

    def sync(self) -> None:
        """After a failure see whether pictures can be kept again; send what waits, of which there is nothing here."""
        if self.fault is not None:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            check_room(self.folder)
            self.fault = None

    def place_of(self, address: str) -> str | None:
        """Where the picture can be read from, if it is still kept."""
        path = self._path(address)
        return str(path) if path.is_file() else None

    def _name(self, address: str) -> str:
        return f"{self.folder}/{address[:2]}/{address}.png"

    def _path(self, address: str) -> Path:
        return Path(self._name(address))


class RemoteInputs(Inputs):
    """Inputs in an object store; what it has not taken yet lies in a folder, so that no answer waits for it."""

    def __init__(self, uri: str, outbox: Path, *, days: int) -> None:
        super().__init__(outbox, days=days)
        self._uri = uri.rstrip("/")
        self._waiting = len(self._outbox())

    def put(self, data: bytes) -> str:
        """Keep a picture in the folder until it is sent."""
        if self._waiting >= OUTBOX:
            raise FeedbackAway(
                "inputs must find their way into the object store",
                found=f"{self._waiting} wait",
                hint="check feedback.inputs and the AWS_* variables, or set feedback.keep_inputs to false",
            )
        address = super().put(data)
        self._waiting += 1
        return address

    def get(self, address: str) -> bytes | None:
        """The picture, from the folder or the object store."""
        if ADDRESS.fullmatch(address) is None:
            return None
        if (data := super().get(address)) is not None:
            return data
        place = self.place_of(address)
        if place is None:
            return None
        with open_uri(place) as file:
            return checked(file.read(), address)

    def expire(self) -> int:
        """Remove what has been kept for long enough, there and here."""
        return remove_older(self._uri, datetime.now(UTC) - timedelta(days=self.days)) + super().expire()

    def sync(self) -> None:
        """Send what waits."""
        super().sync()
        paths = self._outbox()
        if paths:
            upload(paths, [self._remote(path.stem) for path in paths])
        for path in paths:
            path.unlink(missing_ok=True)
        self._waiting = len(self._outbox())

    def place_of(self, address: str) -> str | None:
        """The address of the object, if it is still kept."""
        remote = self._remote(address)
        return remote if remote in list_objects(remote) else None

    def _outbox(self) -> list[Path]:
        return list(self.folder.glob("[0-9a-f][0-9a-f]/*.png"))

    def _remote(self, address: str) -> str:
        return f"{self._uri}/{address[:2]}/{address}.png"


def input_of(stored: StoredPrediction, inputs: Inputs, number: int = 0) -> Row | bytes | None:
    """The row or the picture that an answer was given for, or one of its slices; None where it is not kept."""
    return stored.row if stored.kind == "table" else inputs.get(stored.addresses[number])


def inputs_of(stored: StoredPrediction, inputs: Inputs) -> Any:
    """All that an answer was given for, as a list; None where some of it is not kept."""
    found = [input_of(stored, inputs, number) for number in range(len(stored.addresses))]
    return None if any(one is None for one in found) else found


def open_inputs(place: str, root: Path, outbox: Path, *, days: int) -> Inputs:
    """The inputs at a place: a folder of the project, or an s3:// address."""
    if place.startswith("s3://"):
        return RemoteInputs(place, outbox, days=days)
    if "://" in place:
        raise UserError(
            "feedback.inputs must be a folder or an s3:// address",
            found=place.partition("://")[0],
            hint="for instance work/inputs or s3://bucket/inputs",
        )
    return Inputs(root / place, days=days)


def checked(data: bytes, address: str) -> bytes:
    """The picture, if it is the one of this address."""
    if sha256_bytes(data) != address:
        raise UserError(
            "a kept input must be as it was", found="other bytes", hint="restore it from a backup, or remove it"
        )
    return data
