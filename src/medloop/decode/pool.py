"""Decode untrusted files in child processes, so that a crash or hang does not affect this process."""

from __future__ import annotations

import fcntl
import json
import os
import queue
import select
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np

import medloop
from medloop.decode.child import LENGTHS, READY
from medloop.decode.dicom.tags import Identifiers
from medloop.decode.raster import DEFAULT_LIMITS, DEFAULT_RULE, decode_picture, each_frame, only
from medloop.decode.refuse import OutOfMemory, reject
from medloop.decode.rule import Decoded, DecodeLimits, DecodeRule, Frames
from medloop.decode.sniff import read_header
from medloop.errors import RejectedInput

MEMORY_BYTES = 1 << 30
SECONDS = 10.0
START_SECONDS = 120.0
PIPE_BYTES = 1 << 20
MAX_RESPONSE_BYTES = 1 << 20
# A file on which so many children die, at least two of them fresh, is to blame itself.
TRIES = 3
# How often a child may be killed while it loads its libraries, for instance by an operator or for lack of memory.
MAX_STARTS = 10

Outcome = RejectedInput | tuple[Frames, Identifiers]

_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[3:]; "
    # Before the libraries start threads, which would keep their rights.
    "from medloop.decode import confine; confine.read_only(confine.libraries()); confine.no_sockets_or_programs(); "
    "from medloop.decode.child import main; main(int(sys.argv[1]), float(sys.argv[2]))"
)
# Variables that the interpreter and its libraries may need; no keys, tokens or addresses.
_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR", "VIRTUAL_ENV")


class _Lost(Exception):
    """The child process ended or closed its pipes."""


class Sandbox:
    """A few child processes with the method `decode`; many threads may use it at once."""

    def __init__(self, *, children: int = 1, memory_bytes: int = MEMORY_BYTES, seconds: float = SECONDS) -> None:
        self._children, self._memory_bytes, self._seconds = children, memory_bytes, seconds
        self._refill = threading.Lock()
        self._closed = False
        self._fill()

    def decode(
        self,
        data: bytes,
        *,
        rule: DecodeRule = DEFAULT_RULE,
        limits: DecodeLimits = DEFAULT_LIMITS,
        patient_key: bytes | None = None,
    ) -> Decoded:
        """Decode ordinary PNG and JPEG in this process, and everything else in a child."""
        return only(self.frames(data, rule=rule, limits=limits, patient_key=patient_key))

    def each_frame(
        self, data: bytes, *, rule: DecodeRule = DEFAULT_RULE, patient_key: bytes | None = None
    ) -> Iterator[Decoded]:
        """Yield the pictures of a file that the rule chooses: one, or all of its frames."""
        return each_frame(lambda start: self.frames(data, start=start, rule=rule, patient_key=patient_key))

    def frames(
        self,
        data: bytes,
        *,
        start: int = 0,
        rule: DecodeRule = DEFAULT_RULE,
        limits: DecodeLimits = DEFAULT_LIMITS,
        patient_key: bytes | None = None,
    ) -> Frames:
        """Return a few of the frames that the rule chooses, from number `start` on."""
        header = read_header(data, limits)
        if header.quick:
            return Frames([decode_picture(data, header, rule)], 1)
        if self._closed:
            raise RuntimeError("the sandbox is closed")
        idle = self._pool()
        child = idle.get()
        try:
            frames, who = child.frames(data, start=start, rule=rule, limits=limits)
        finally:
            idle.put(child)
        return Frames([who.attach(picture, patient_key) for picture in frames.pictures], frames.total)

    def close(self) -> None:
        """End the child processes."""
        self._closed = True
        for child in self._all:
            child.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _fill(self) -> None:
        self._all = [
            DecoderProcess(memory_bytes=self._memory_bytes, seconds=self._seconds) for _ in range(self._children)
        ]
        # The last one used comes first: a quiet service keeps one child warm and never starts the others.
        self._idle: queue.LifoQueue[DecoderProcess] = queue.LifoQueue()
        for child in self._all:
            self._idle.put(child)
        self._owner = os.getpid()

    def _pool(self) -> queue.LifoQueue[DecoderProcess]:
        if self._owner != os.getpid():
            # A fork copied this object; the children and their pipes stay with the parent.
            with self._refill:
                if self._owner != os.getpid():
                    self._fill()
        return self._idle


class DecoderProcess:
    """One child process, started when first needed and again whenever it has died."""

    def __init__(self, *, memory_bytes: int = MEMORY_BYTES, seconds: float = SECONDS) -> None:
        self._memory_bytes, self._seconds = memory_bytes, seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize[[subprocess.Popen[bytes], int], DecoderProcess] | None = None
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """Return the process id of the child, while there is one."""
        return self._process.pid if self._process else None

    def frames(
        self, data: bytes, *, start: int = 0, rule: DecodeRule = DEFAULT_RULE, limits: DecodeLimits = DEFAULT_LIMITS
    ) -> tuple[Frames, Identifiers]:
        """Decode frames of one file; a file on which a used child fails is tried again in a fresh one."""
        request = json.dumps({"start": start, "rule": rule.to_json(), "limits": asdict(limits)}).encode()
        with self._lock:
            tries = (self._try(request, data, limits) for _ in range(TRIES))
            outcome = next((outcome for outcome in tries if outcome is not None), None)
        if outcome is None or isinstance(outcome, RejectedInput):
            raise outcome or reject("The decoder crashed on this file.")
        return outcome

    def close(self) -> None:
        """End the child process."""
        with self._lock:
            self._stop()

    def _try(self, request: bytes, data: bytes, limits: DecodeLimits) -> Outcome | None:
        """Decode once; return None if a fresh child should try again."""
        fresh = self._process is None
        process = self._process or self._start()
        try:
            outcome = _exchange(process, request, data, limits, time.monotonic() + self._seconds)
        except _Lost:
            # An earlier file may have corrupted the heap of a child, or a fresh one was killed from outside.
            self._stop()
            return None
        except TimeoutError:
            self._stop()
            return reject(f"Decoding this file takes longer than {self._seconds:g} seconds.")
        if isinstance(outcome, OutOfMemory) and not fresh:
            self._stop()
            return None
        return outcome

    def _start(self) -> subprocess.Popen[bytes]:
        deadline = time.monotonic() + START_SECONDS
        for _ in range(MAX_STARTS):
            process = self._launch()
            try:
                _receive(_stdout(process), len(READY), deadline)
            except (_Lost, TimeoutError):
                killed = _was_killed(process)
                self._stop()
                if not killed or time.monotonic() > deadline:
                    break
            else:
                return process
        raise RuntimeError("the decoder process does not start")

    def _launch(self) -> subprocess.Popen[bytes]:
        command, environment = child_command(_PROGRAM, str(self._memory_bytes), str(self._seconds))
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            env=environment,
            # Ctrl-C is handled by the parent, which ends its children in order.
            start_new_session=True,
        )
        self._process = process
        self._end = weakref.finalize(self, _end, process, os.getpid())
        for stream in (_stdin(process), _stdout(process)):
            os.set_blocking(stream, False)
            _widen(stream)
        return process

    def _stop(self) -> None:
        if self._end:
            self._end()
        self._process = self._end = None


def child_command(program: str, *arguments: str) -> tuple[list[str], dict[str, str]]:
    """Return the command and environment of a child that imports this medloop and inherits no secrets."""
    package = str(Path(medloop.__file__).parent.parent)
    paths = [package, *(path for path in sys.path if path)]
    environment = {name: os.environ[name] for name in _INHERITED if name in os.environ}
    command = [sys.executable, "-I", "-c", program, *arguments, *paths]
    return command, {**environment, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def _was_killed(process: subprocess.Popen[bytes]) -> bool:
    """Return whether a signal ended the process, rather than an error of its own."""
    try:
        return process.wait(timeout=1) < 0
    except subprocess.TimeoutExpired:
        return False


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    if os.getpid() != owner:
        # A forked copy: the child belongs to the parent.
        process.returncode = 0
        return
    for stream in (process.stdin, process.stdout):
        if stream:
            stream.close()
    process.kill()
    process.wait()


def _stdin(process: subprocess.Popen[bytes]) -> int:
    return _descriptor(process.stdin)


def _stdout(process: subprocess.Popen[bytes]) -> int:
    return _descriptor(process.stdout)


def _descriptor(stream: IO[bytes] | None) -> int:
    if stream is None:
        raise RuntimeError("the decoder process has no pipes")
    return stream.fileno()


def _widen(stream: int) -> None:
    """Enlarge a pipe so that a whole slice passes at once, if the system allows it."""
    if sys.platform == "linux":
        try:
            fcntl.fcntl(stream, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        except PermissionError:
            # The memory for pipes is limited per user; narrow pipes work as well, only more slowly.
            return


def _exchange(
    process: subprocess.Popen[bytes], request: bytes, data: bytes, limits: DecodeLimits, deadline: float
) -> Outcome:
    target, source = _stdin(process), _stdout(process)
    _send(target, LENGTHS.pack(len(request), len(data)) + request, deadline)
    _send(target, data, deadline)
    words, size = LENGTHS.unpack(_receive(source, LENGTHS.size, deadline))
    if words > MAX_RESPONSE_BYTES or size > 3 * limits.max_pixels:
        raise _Lost
    text, pixels = _receive(source, words, deadline), _receive(source, size, deadline)
    try:
        return _parse_response(json.loads(bytes(text)), pixels)
    except (ValueError, TypeError, KeyError, AttributeError):
        # A child that a file has corrupted may send anything.
        raise _Lost from None


def _send(stream: int, data: bytes, deadline: float) -> None:
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(stream, view) :]
        except BlockingIOError:
            _wait(stream, select.POLLOUT, deadline)
        except BrokenPipeError:
            raise _Lost from None


def _receive(stream: int, size: int, deadline: float) -> bytearray:
    data = bytearray(size)
    view, done = memoryview(data), 0
    while done < size:
        try:
            count = os.readv(stream, [view[done:]])
        except BlockingIOError:
            _wait(stream, select.POLLIN, deadline)
            continue
        if count == 0:
            raise _Lost
        done += count
    return data


def _wait(stream: int, event: int, deadline: float) -> None:
    poll = select.poll()
    poll.register(stream, event)
    left = deadline - time.monotonic()
    if left <= 0 or not poll.poll(left * 1000):
        raise TimeoutError


def _parse_response(response: dict[str, Any], pixels: bytearray) -> Outcome:
    """Build the result from plain data, so that nothing that a child sends is executed."""
    if "problem" in response:
        kind = OutOfMemory if response["memory"] else RejectedInput
        return kind(str(response["problem"]), str(response["hint"]))
    number, height, width, *colours = (int(n) for n in response["shape"])
    if colours not in ([], [3]) or number < 1:
        raise ValueError("neither grey nor colour")
    pictures = [
        Decoded(
            pixels=picture,
            mode=str(response["mode"]),
            format=response["format"],
            width=int(response["width"]),
            height=int(response["height"]),
            bits=int(response["bits"]),
            meta=dict(meta),
        )
        for picture, meta in zip(
            np.frombuffer(pixels, np.uint8).reshape(number, height, width, *colours), response["metas"], strict=True
        )
    ]
    who = Identifiers(**{name: str(value) for name, value in response["who"].items()})
    return Frames(pictures, max(number, int(response["total"]))), who
