"""Decodes the files of strangers in child processes that may die or hang; this process does neither."""

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
from medloop.errors import RejectedInput
from medloop.prepare.decode import DEFAULT_LIMITS, DEFAULT_RULE, decode_picture, each_frame, only
from medloop.prepare.dicom_meta import Identifiers
from medloop.prepare.header import read_header
from medloop.prepare.refuse import OutOfMemory, reject
from medloop.prepare.rule import Decoded, DecodeLimits, DecodeRule, Frames
from medloop.prepare.sandbox_child import LENGTHS, READY

MEMORY_BYTES = 1 << 30
SECONDS = 10.0
START_SECONDS = 120.0
PIPE_BYTES = 1 << 20
MAX_ANSWER = 1 << 20
# A file of which so many children die, at least two of them fresh, is the one to blame.
TRIES = 3
# How often a child may be killed while it loads its libraries, for instance by an operator or for want of memory.
MAX_STARTS = 10

Answer = RejectedInput | tuple[Frames, Identifiers]

_PROGRAM = (
    "import sys; sys.path[:] = sys.argv[3:]; "
    # Before the libraries start threads, which would keep their rights.
    "from medloop.prepare import confine; confine.read_only(confine.libraries()); confine.no_sockets_or_programs(); "
    "from medloop.prepare.sandbox_child import main; main(int(sys.argv[1]), float(sys.argv[2]))"
)
# What finding the interpreter and its libraries may need; no keys, tokens or addresses.
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "TMPDIR", "VIRTUAL_ENV")


class _Lost(Exception):
    """The child went away."""


class Sandbox:
    """A few child processes behind the method of decode; many threads may use it at once."""

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
        """Decodes ordinary PNG and JPEG here and all else in a child."""
        return only(self.frames(data, rule=rule, limits=limits, patient_key=patient_key))

    def each_frame(
        self, data: bytes, *, rule: DecodeRule = DEFAULT_RULE, patient_key: bytes | None = None
    ) -> Iterator[Decoded]:
        """The pictures of a file that the rule chooses: one, or all of its frames."""
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
        """Some of the frames that the rule chooses, from one on."""
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
        """Ends the children."""
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
        # The last one used first: a quiet service keeps one child warm and never starts the others.
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
    """One child process, started when first needed and again whenever it was lost."""

    def __init__(self, *, memory_bytes: int = MEMORY_BYTES, seconds: float = SECONDS) -> None:
        self._memory_bytes, self._seconds = memory_bytes, seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._end: weakref.finalize[[subprocess.Popen[bytes], int], DecoderProcess] | None = None
        self._lock = threading.Lock()

    @property
    def pid(self) -> int | None:
        """The child's process id, while there is a child."""
        return self._process.pid if self._process else None

    def frames(
        self, data: bytes, *, start: int = 0, rule: DecodeRule = DEFAULT_RULE, limits: DecodeLimits = DEFAULT_LIMITS
    ) -> tuple[Frames, Identifiers]:
        """Decodes frames of one file; what a child of some age fails at gets a second chance in a fresh one."""
        request = json.dumps({"start": start, "rule": rule.to_json(), "limits": asdict(limits)}).encode()
        with self._lock:
            tries = (self._try(request, data, limits) for _ in range(TRIES))
            answer = next((answer for answer in tries if answer is not None), None)
        if answer is None or isinstance(answer, RejectedInput):
            raise answer or _died()
        return answer

    def close(self) -> None:
        """Ends the child."""
        with self._lock:
            self._stop()

    def _try(self, request: bytes, data: bytes, limits: DecodeLimits) -> Answer | None:
        """Asks once; gives nothing where a fresh child should be asked again."""
        fresh = self._process is None
        process = self._process or self._start()
        try:
            answer = _ask(process, request, data, limits, time.monotonic() + self._seconds)
        except _Lost:
            # An earlier file may have broken the heap of a child, and somebody else may have killed a fresh one.
            self._stop()
            return None
        except TimeoutError:
            self._stop()
            return reject(f"a file that takes longer than {self._seconds:g} seconds to decode")
        if isinstance(answer, OutOfMemory) and not fresh:
            self._stop()
            return None
        return answer

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
            # A Ctrl-C is for the parent, which ends its children in order.
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


def child_command(program: str, *words: str) -> tuple[list[str], dict[str, str]]:
    """The command and environment of a child that finds this medloop and knows no secret; its words come first."""
    package = str(Path(medloop.__file__).parent.parent)
    paths = [package, *(path for path in sys.path if path)]
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    command = [sys.executable, "-I", "-c", program, *words, *paths]
    return command, {**environment, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def _was_killed(process: subprocess.Popen[bytes]) -> bool:
    """Return whether a signal ended the process, rather than an error of its own."""
    try:
        return process.wait(timeout=1) < 0
    except subprocess.TimeoutExpired:
        return False


def _end(process: subprocess.Popen[bytes], owner: int) -> None:
    if os.getpid() != owner:
        # A forked copy: the child is not ours to end, nor to wait for.
        process.returncode = 0
        return
    for stream in (process.stdin, process.stdout):
        if stream:
            stream.close()
    process.kill()
    process.wait()


def _stdin(process: subprocess.Popen[bytes]) -> int:
    return _number(process.stdin)


def _stdout(process: subprocess.Popen[bytes]) -> int:
    return _number(process.stdout)


def _number(stream: IO[bytes] | None) -> int:
    if stream is None:
        raise RuntimeError("the decoder process has no pipes")
    return stream.fileno()


def _widen(stream: int) -> None:
    """Lets a whole slice pass in one go, where the system grants it."""
    if sys.platform == "linux":
        try:
            fcntl.fcntl(stream, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
        except PermissionError:
            # A user may own only so much of such memory; narrow pipes work as well, only slower.
            return


def _ask(
    process: subprocess.Popen[bytes], request: bytes, data: bytes, limits: DecodeLimits, deadline: float
) -> Answer:
    target, source = _stdin(process), _stdout(process)
    _send(target, LENGTHS.pack(len(request), len(data)) + request, deadline)
    _send(target, data, deadline)
    words, size = LENGTHS.unpack(_receive(source, LENGTHS.size, deadline))
    if words > MAX_ANSWER or size > 3 * limits.max_pixels:
        raise _Lost
    text, pixels = _receive(source, words, deadline), _receive(source, size, deadline)
    try:
        return _understand(json.loads(bytes(text)), pixels)
    except (ValueError, TypeError, KeyError, AttributeError):
        # A child that a file broke may say anything.
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


def _died() -> RejectedInput:
    return reject("a file that the decoder dies of")


def _understand(answer: dict[str, Any], pixels: bytearray) -> Answer:
    """Builds the result from plain data, since nothing that a child says is run."""
    if "must" in answer:
        kind = OutOfMemory if answer["memory"] else RejectedInput
        return kind(str(answer["must"]), found=str(answer["found"]), hint=str(answer["hint"]))
    number, height, width, *colours = (int(n) for n in answer["shape"])
    if colours not in ([], [3]) or number < 1:
        raise ValueError("neither grey nor colour")
    pictures = [
        Decoded(
            pixels=picture,
            mode=str(answer["mode"]),
            format=answer["format"],
            width=int(answer["width"]),
            height=int(answer["height"]),
            bits=int(answer["bits"]),
            meta=dict(meta),
        )
        for picture, meta in zip(
            np.frombuffer(pixels, np.uint8).reshape(number, height, width, *colours), answer["metas"], strict=True
        )
    ]
    who = Identifiers(**{name: str(value) for name, value in answer["who"].items()})
    return Frames(pictures, max(number, int(answer["total"]))), who
