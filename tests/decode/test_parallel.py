"""The same results in order whether in this process or in several, and none of them outlives its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medloop.cores import cores
from medloop.decode.parallel import MAX_CHUNK, MIN_FILES_FOR_PROCESSES, chunks_of, each_chunk, growing_chunks
from medloop.decode.pool import Sandbox
from medloop.errors import UserError

MANY = MIN_FILES_FOR_PROCESSES


def squares(numbers: Sequence[int], sandbox: Sandbox) -> list[int]:
    assert isinstance(sandbox, Sandbox)
    return [number * number for number in numbers]


def pids(numbers: Sequence[int], sandbox: Sandbox) -> int:
    return os.getpid()


def touch(path: Path, sandbox: Sandbox) -> str:
    path.touch()
    return path.name


def fail(numbers: Sequence[int], sandbox: Sandbox) -> int:
    if 3 in numbers:
        raise ValueError("three")
    return 0


def die(numbers: Sequence[int], sandbox: Sandbox) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@given(count=st.integers(0, 5000), max_size=st.integers(1, 1000))
def test_chunks_are_all_items_in_order_and_none_too_long(count: int, max_size: int) -> None:
    chunks = chunks_of(range(count), max_size=max_size)
    assert [item for chunk in chunks for item in chunk] == list(range(count))
    assert all(1 <= len(chunk) <= min(max_size, MAX_CHUNK) for chunk in chunks)
    assert len({len(chunk) for chunk in chunks[:-1]}) <= 1


@given(count=st.integers(0, 30_000))
def test_growing_pieces_are_all_items_in_order_and_none_too_long(count: int) -> None:
    sizes, following = [], 0
    for piece in growing_chunks(iter(range(count))):
        assert piece == list(range(following, following + len(piece)))
        sizes.append(len(piece))
        following += len(piece)
    assert following == count
    assert sizes[:-1] == sorted(sizes[:-1])
    assert all(size <= MAX_CHUNK for size in sizes)
    assert len(sizes) <= 20 or max(sizes) <= count / 12


def test_the_first_files_are_worked_on_while_others_are_looked_for(tmp_path: Path) -> None:
    def found() -> Iterator[Path]:
        yield tmp_path / "first"
        deadline = time.monotonic() + 60
        while not (tmp_path / "first").exists():
            assert time.monotonic() < deadline, "nobody works on the first"
            time.sleep(0.01)
        yield tmp_path / "second"

    with each_chunk(touch, found(), are_many=True, what="touch") as names:
        assert list(names) == ["first", "second"]


@pytest.mark.parametrize("count", [0, 1, MANY - 1, MANY, 3 * MANY])
def test_results_come_in_order(count: int) -> None:
    with each_chunk(squares, chunks_of(range(count)), are_many=count >= MANY, what="squares") as results:
        assert [number for result in results for number in result] == [number * number for number in range(count)]


def test_few_files_stay_in_this_process_and_many_go_to_others() -> None:
    with each_chunk(pids, chunks_of(range(10)), are_many=False, what="few") as results:
        few = set(results)
    with each_chunk(pids, chunks_of(range(MANY)), are_many=True, what="many") as results:
        many = set(results)
    assert few == {os.getpid()}
    assert os.getpid() not in many
    assert 1 <= len(many) <= cores()


def test_other_processes_are_at_work_before_a_result_is_asked_for(tmp_path: Path) -> None:
    with each_chunk(touch, [tmp_path / "first"], are_many=True, what="touch"):
        deadline = time.monotonic() + 60
        while not (tmp_path / "first").exists():
            assert time.monotonic() < deadline, "nobody works"
            time.sleep(0.01)


@pytest.mark.parametrize("files", [10, MANY])
def test_an_error_of_the_work_reaches_the_caller(files: int) -> None:
    failing = each_chunk(fail, chunks_of(range(files)), are_many=files == MANY, what="fail")
    with pytest.raises(ValueError, match="three"), failing as results:
        list(results)


def test_a_process_that_is_killed_is_an_error_with_advice() -> None:
    dying = each_chunk(die, chunks_of(range(MANY)), are_many=True, what="die")
    with pytest.raises(UserError, match="was killed") as caught, dying as results:
        list(results)
    assert "memory" in caught.value.hint


PARENT = """
from tests.decode.test_parallel import tell, MANY
from medloop.decode.parallel import each_chunk, chunks_of
if __name__ == "__main__":
    with each_chunk(tell, chunks_of(range(MANY)), are_many=True, what="tell") as results:
        list(results)
"""


def tell(numbers: Sequence[int], sandbox: Sandbox) -> None:
    sys.stdout.write(f"{os.getpid()}\n")
    sys.stdout.flush()
    time.sleep(60)


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="processes are looked up in /proc")
def test_no_process_outlives_a_parent_that_is_killed() -> None:
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", PARENT]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        workers = [int(parent.stdout.readline()) for _ in range(min(2, cores()))]
        assert all(map(is_running, workers))
        parent.kill()
    deadline = time.monotonic() + 60
    while any(map(is_running, workers)) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not any(map(is_running, workers))
