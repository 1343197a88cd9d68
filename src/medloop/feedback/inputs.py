"""The inputs of predictions: rows in the database, images as PNG files named by their hash, kept for a limited time."""

from __future__ import annotations

import os
import re
import secrets
import time
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from sqlalchemy import update

from medloop.case import Row
from medloop.errors import UserError
from medloop.feedback.db import tables
from medloop.feedback.db.faults import explained
from medloop.feedback.db.private_files import check_room, write_private
from medloop.feedback.journal.chain import Event
from medloop.feedback.journal.transactions import Transactions
from medloop.feedback.records import FeedbackAway, StoredPrediction
from medloop.storage import open_uri, sha256_bytes
from medloop.storage.objects import list_objects, remove_older, upload
from medloop.storage.png import PIXEL_CHUNKS, SIGNATURE, png_chunks
from medloop.times import utc_now

EXPIRY = "expiry"
ADDRESS = re.compile("[0-9a-f]{64}")
DAY_S = 86_400
# How many files may wait while the object store is unavailable.
MAX_WAITING_FILES = 20_000


def check_png(data: bytes) -> None:
    """Refuse data that is not a PNG, or a PNG that holds more than its pixels."""
    problem = "is a broken PNG" if data.startswith(SIGNATURE) else "is not a PNG"
    for chunk in png_chunks(data) if data.startswith(SIGNATURE) else ():
        if chunk.name not in PIXEL_CHUNKS:
            problem = f"is a PNG with a chunk {chunk.name.decode('latin-1')!r}"
            break
        if chunk.name == b"IEND" and chunk.end == len(data):
            return
    raise UserError(f"The input to keep {problem}.", "Write it as a PNG that holds only pixels.")


class Inputs:
    """A folder of images."""

    def __init__(self, folder: Path, *, days: int) -> None:
        self.folder, self.days = folder, days
        # Why the last image could not be stored.
        self.fault: str | None = None

    def put(self, data: bytes) -> str:
        """Store an image and return its address; storing the same image again prolongs its time."""
        check_png(data)
        address = sha256_bytes(data)
        try:
            self._keep(address, data)
        except OSError as error:
            why = error.strerror or type(error).__name__
            self.fault = f"inputs cannot be stored ({why})"
            raise FeedbackAway(
                f"The input could not be stored ({why}), so no prediction is returned.",
                "Free space in the folder feedback.inputs, or set feedback.keep_inputs to false.",
            ) from error
        return address

    def _keep(self, address: str, data: bytes) -> None:
        try:
            # With a string, because building a Path takes longer than the call.
            os.utime(self._name(address))
        except FileNotFoundError:
            path = self._path(address)
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            path.parent.mkdir(exist_ok=True, mode=0o700)
            # Not synced: a killed process loses nothing, and damage by a power cut shows in the hash.
            write_private(path.with_name(f".{secrets.token_hex(8)}.partial"), data).replace(path)

    def get(self, address: str) -> bytes | None:
        """Return the image at this address, or None if it was not kept or has expired."""
        if ADDRESS.fullmatch(address) is None:
            return None
        try:
            data = self._path(address).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise FeedbackAway(f"The input cannot be read ({reason}).", "Check feedback.inputs.") from error
        return verified(data, address)

    def expire(self) -> int:
        """Remove expired images and return how many."""
        oldest = time.time() - self.days * DAY_S
        count = 0
        for path in self.folder.glob("[0-9a-f][0-9a-f]/*"):
            # Another process may remove it first.
            with suppress(FileNotFoundError):
                if path.stat().st_mtime < oldest:
                    path.unlink()
                    count += 1
        return count

    def sync(self) -> None:
        """After a failure, check whether images can be stored again."""
        if self.fault is not None:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            check_room(self.folder)
            self.fault = None

    def location(self, address: str) -> str | None:
        """Return the path of the image, or None if it is not kept."""
        path = self._path(address)
        return str(path) if path.is_file() else None

    def _name(self, address: str) -> str:
        return f"{self.folder}/{address[:2]}/{address}.png"

    def _path(self, address: str) -> Path:
        return Path(self._name(address))


class RemoteInputs(Inputs):
    """Inputs in an object store; a folder holds those still to be uploaded, so that no prediction waits for it."""

    def __init__(self, uri: str, outbox: Path, *, days: int) -> None:
        super().__init__(outbox, days=days)
        self._uri = uri.rstrip("/")
        self._waiting = len(self._outbox())

    def put(self, data: bytes) -> str:
        """Store an image in the folder until it is uploaded."""
        if self._waiting >= MAX_WAITING_FILES:
            raise FeedbackAway(
                f"{self._waiting:,} inputs are waiting for the object store, which does not accept them.",
                "Check feedback.inputs and the AWS_* variables, or set feedback.keep_inputs to false.",
            )
        address = super().put(data)
        self._waiting += 1
        return address

    def get(self, address: str) -> bytes | None:
        """Return the image, from the folder or the object store."""
        if ADDRESS.fullmatch(address) is None:
            return None
        if (data := super().get(address)) is not None:
            return data
        place = self.location(address)
        if place is None:
            return None
        with open_uri(place) as file:
            return verified(file.read(), address)

    def expire(self) -> int:
        """Remove expired images there and here, and return how many."""
        return remove_older(self._uri, datetime.now(UTC) - timedelta(days=self.days)) + super().expire()

    def sync(self) -> None:
        """Upload the waiting images."""
        super().sync()
        paths = self._outbox()
        if paths:
            upload(paths, [self._remote(path.stem) for path in paths])
        for path in paths:
            path.unlink(missing_ok=True)
        self._waiting = len(self._outbox())

    def location(self, address: str) -> str | None:
        """Return the address of the object, or None if it is not kept."""
        remote = self._remote(address)
        return remote if remote in list_objects(remote) else None

    def _outbox(self) -> list[Path]:
        return list(self.folder.glob("[0-9a-f][0-9a-f]/*.png"))

    def _remote(self, address: str) -> str:
        return f"{self._uri}/{address[:2]}/{address}.png"


def input_of(stored: StoredPrediction, inputs: Inputs, number: int = 0) -> Row | bytes | None:
    """Return the row, the image or one of the slices of a prediction, or None if it is not kept."""
    return stored.row if stored.kind == "table" else inputs.get(stored.addresses[number])


def inputs_of(stored: StoredPrediction, inputs: Inputs) -> Any:
    """Return all inputs of a prediction as a list, or None if some of them are not kept."""
    found = [input_of(stored, inputs, number) for number in range(len(stored.addresses))]
    return None if any(one is None for one in found) else found


def open_inputs(place: str, root: Path, outbox: Path, *, days: int) -> Inputs:
    """Return the inputs in a folder of the project, or at an s3:// address."""
    if place.startswith("s3://"):
        return RemoteInputs(place, outbox, days=days)
    if "://" in place:
        raise UserError(
            f"feedback.inputs has the unsupported scheme {place.partition('://')[0]}.",
            "Use a folder or an s3:// address, such as work/inputs or s3://bucket/inputs.",
        )
    return Inputs(root / place, days=days)


def verified(data: bytes, address: str) -> bytes:
    """Return the data if their hash is this address."""
    if sha256_bytes(data) != address:
        raise UserError("A stored input has changed since.", "Restore it from a backup, or remove it.")
    return data


def expire_inputs(transactions: Transactions, inputs: Inputs) -> int:
    """Remove expired row values from the database and expired images, note both in the journal, and return how many."""
    before = utc_now(shift=-timedelta(days=inputs.days))
    columns = tables.predictions.c
    with explained(), transactions.writing() as transaction:
        query = update(tables.predictions).where(columns.at < before, columns.row.is_not(None)).values(row=None)
        rows = transaction.connection.execute(query).rowcount
        if rows:
            transaction.events.append(_expiry_event({"before": before, "rows": rows}))
    pictures = inputs.expire()
    if pictures:
        with explained(), transactions.writing() as transaction:
            transaction.events.append(_expiry_event({"before": before, "pictures": pictures}))
    return rows + pictures


def _expiry_event(content: dict[str, Any]) -> Event:
    return Event(kind=EXPIRY, ref=secrets.token_hex(16), at=utc_now(), content=content)
