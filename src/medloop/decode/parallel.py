"""Do the same work on many files, on all cores, with results in order and progress."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from itertools import islice
from typing import Any, TypeVar

from medloop.cores import cores
from medloop.decode.pool import Sandbox
from medloop.errors import UserError
from medloop.progress import track

Item = TypeVar("Item")
Result = TypeVar("Result")

MIN_CHUNK = 16
MAX_CHUNK = 512
CHUNKS_PER_CORE = 16
MAX_PROCESSES = 16
# Fewer files are done before other processes would have started.
MIN_FILES_FOR_PROCESSES = 128
# Imported once, by the server that the processes are forked from.
PRELOADED = ("cv2", "medloop.decode.examine", "medloop.prepare.prepared_images")


def chunks_of(items: Sequence[Item], *, max_size: int = MAX_CHUNK) -> list[Sequence[Item]]:
    """Split the items into chunks that are worth a message, and small enough that no core waits long at the end."""
    size = min(max_size, MAX_CHUNK, max(1, len(items) // (CHUNKS_PER_CORE * _processes())))
    return [items[start : start + size] for start in range(0, len(items), size)]


def growing_chunks(items: Iterable[Item]) -> Iterator[list[Item]]:
    """Split items whose number is not known yet into chunks that grow with the number seen so far."""
    waiting, known = iter(items), 0
    while piece := list(islice(waiting, min(MAX_CHUNK, max(MIN_CHUNK, known // CHUNKS_PER_CORE)))):
        known += len(piece)
        yield piece


@contextmanager
def each_chunk(
    work: Callable[[Item, Sandbox], Result], chunks: Iterable[Item], *, are_many: bool, what: str
) -> Iterator[Iterator[Result]]:
    """Yield the results of the chunks, in order, each as soon as it and those before it are done.

    With `are_many`, other processes work on the first chunks while the later ones are still being made.
    """
    running = _in_processes(work, chunks) if are_many else _in_this_process(work, list(chunks))
    with running as (results, total), closing(track(results, total=total, what=what)) as tracked:
        yield tracked


@contextmanager
def _in_this_process(
    work: Callable[[Item, Sandbox], Result], chunks: Sequence[Item]
) -> Iterator[tuple[Iterator[Result], int]]:
    with Sandbox() as sandbox:
        yield (work(chunk, sandbox) for chunk in chunks), len(chunks)


@contextmanager
def _in_processes(
    work: Callable[[Item, Sandbox], Result], chunks: Iterable[Item]
) -> Iterator[tuple[Iterator[Result], int]]:
    # Forked from a server that has imported the decoders and has no threads: fast and safe.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(PRELOADED))
    pool = ProcessPoolExecutor(_processes(), mp_context=context, initializer=_start_worker, initargs=(work,))
    try:
        submitted = deque(pool.submit(_run, chunk) for chunk in chunks)
        # A result is released once it was yielded.
        yield (submitted.popleft().result() for _ in range(len(submitted))), len(submitted)
    except BrokenProcessPool as error:
        raise UserError(
            "A process that decodes images was killed, most likely for lack of memory.",
            "Free some memory and run the step again.",
        ) from error
    finally:
        pool.shutdown(cancel_futures=True)


def _processes() -> int:
    return min(MAX_PROCESSES, cores())


# The work of this worker process, set when it starts.
_worker_task: list[Callable[[Any], Any]] = []


def _start_worker(work: Callable[[Any, Sandbox], Any]) -> None:
    import cv2

    # Ctrl-C is handled by the parent, which ends its processes in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)
    sandbox = Sandbox()
    _worker_task.append(lambda chunk: work(chunk, sandbox))


def _end_with_parent() -> None:
    """End this process with its parent; it would wait for work forever."""
    parent = multiprocessing.parent_process()
    if parent:
        parent.join()
        os._exit(1)


def _run(chunk: Any) -> Any:
    return _worker_task[0](chunk)
