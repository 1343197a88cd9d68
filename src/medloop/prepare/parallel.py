"""The same work on many files, in as many processes as there are cores, in order, with progress."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from itertools import islice
from types import ModuleType
from typing import Any, TypeVar

from medloop.cores import cores
from medloop.errors import UserError
from medloop.prepare.sandbox import Sandbox
from medloop.progress import track

Item = TypeVar("Item")
Result = TypeVar("Result")

LEAST_IN_A_CHUNK = 16
MOST_IN_A_CHUNK = 512
CHUNKS_A_CORE = 16
MOST_PROCESSES = 16
# Fewer files are done before other processes would have started.
WORTH_PROCESSES = 128
# Loaded once, by the server that the processes are forked from.
PRELOADED = ("cv2", "medloop.prepare.examine", "medloop.prepare.prepared_images")


def chunks_of(items: Sequence[Item], *, most: int = MOST_IN_A_CHUNK) -> list[Sequence[Item]]:
    """The items in pieces: large enough to be worth a message, small enough that no core waits long at the end."""
    size = min(most, MOST_IN_A_CHUNK, max(1, len(items) // (CHUNKS_A_CORE * _processes())))
    return [items[start : start + size] for start in range(0, len(items), size)]


def growing(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Items of which nobody knows yet how many there will be, in pieces that grow with what has come already."""
    waiting, known = iter(items), 0
    while piece := list(islice(waiting, min(MOST_IN_A_CHUNK, max(LEAST_IN_A_CHUNK, known // CHUNKS_A_CORE)))):
        known += len(piece)
        yield piece


@contextmanager
def each_chunk(
    work: Callable[[Item, Sandbox], Result], chunks: Iterable[Item], *, are_many: bool, what: str
) -> Iterator[Iterator[Result]]:
    """The result of each chunk, in order, as soon as it and those before it are done.

    Where there are many files, other processes are at work when the block begins, and were while the chunks were made.
    """
    working = _apart(work, chunks) if are_many else _here(work, list(chunks))
    with working as (results, total), closing(track(results, total=total, what=what)) as tracked:
        yield tracked


@contextmanager
def _here(work: Callable[[Item, Sandbox], Result], chunks: Sequence[Item]) -> Iterator[tuple[Iterator[Result], int]]:
    with Sandbox() as sandbox:
        yield (work(chunk, sandbox) for chunk in chunks), len(chunks)


@contextmanager
def _apart(work: Callable[[Item, Sandbox], Result], chunks: Iterable[Item]) -> Iterator[tuple[Iterator[Result], int]]:
    # Forked from a server that has loaded the decoders and nothing else: quick, and safe beside other threads.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    pool = ProcessPoolExecutor(_processes(), mp_context=context, initializer=_begin, initargs=(work,))
    try:
        with _program_hidden():
            begun = deque(pool.submit(_work, chunk) for chunk in chunks)
        # Each is let go of once it was given.
        yield (begun.popleft().result() for _ in range(len(begun))), len(begun)
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
    return min(MOST_PROCESSES, cores())


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
