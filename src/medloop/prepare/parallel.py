"""The same work on many files, in as many processes as there are cores, in order, with progress."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from types import ModuleType
from typing import Any, TypeVar

from medloop.errors import UserError
from medloop.prepare.sandbox import Sandbox
from medloop.progress import track

Item = TypeVar("Item")
Result = TypeVar("Result")

MOST_IN_A_CHUNK = 512
CHUNKS_A_CORE = 16
MOST_PROCESSES = 16
# Fewer files are done before other processes would have started.
WORTH_PROCESSES = 128
# Loaded once, by the server that the processes are forked from.
PRELOADED = ("cv2", "simplejpeg", "medloop.prepare.examine", "medloop.prepare.prepared_images")


def chunks_of(items: Sequence[Item], *, most: int = MOST_IN_A_CHUNK) -> list[Sequence[Item]]:
    """The items in pieces: large enough to be worth a message, small enough that no core waits long at the end."""
    size = min(most, MOST_IN_A_CHUNK, max(1, len(items) // (CHUNKS_A_CORE * _processes())))
    return [items[start : start + size] for start in range(0, len(items), size)]


def each_chunk(
    work: Callable[[Item, Sandbox], Result], chunks: Sequence[Item], *, files: int, what: str
) -> Iterator[Result]:
    """The result of each chunk of so many files, in order, as soon as it and those before it are done."""
    done = (_apart if files >= WORTH_PROCESSES else _here)(work, chunks)
    yield from track(done, total=len(chunks), what=what)


def _here(work: Callable[[Item, Sandbox], Result], chunks: Iterable[Item]) -> Iterator[Result]:
    with Sandbox() as sandbox:
        for chunk in chunks:
            yield work(chunk, sandbox)


def _apart(work: Callable[[Item, Sandbox], Result], chunks: Iterable[Item]) -> Iterator[Result]:
    # Forked from a server that has loaded the decoders and nothing else: quick, and safe beside other threads.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    pool = ProcessPoolExecutor(_processes(), mp_context=context, initializer=_begin, initargs=(work,))
    try:
        with _program_hidden():
            results = pool.map(_work, chunks)
        yield from results
    except BrokenProcessPool as error:
        raise UserError(
            "the processes that decode must live until they are done",
            found="one that was killed, most often for want of memory",
            hint="free some memory and run the step again",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


@contextmanager
def _program_hidden() -> Iterator[None]:
    """A process that starts would import the program once more, and the command line with all that hangs on it."""
    program = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = program


def _processes() -> int:
    return min(MOST_PROCESSES, os.cpu_count() or 1)


# What a process of the pool was started for.
_OWN: list[Callable[[Any], Any]] = []


def _begin(work: Callable[[Any, Sandbox], Any]) -> None:
    import cv2

    # A Ctrl-C is for the parent, which ends its processes in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)
    sandbox = Sandbox()
    _OWN.append(lambda chunk: work(chunk, sandbox))


def _end_with_parent() -> None:
    """A process whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)


def _work(chunk: Any) -> Any:
    return _OWN[0](chunk)
