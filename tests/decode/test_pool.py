from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from medloop.decode.pool import _PROGRAM, DecoderProcess, Sandbox
from medloop.decode.raster import DecodeLimits, DecodeRule, decode
from medloop.errors import RejectedInput
from tests.decode.dicom_files import DEFLATED, dicom, element, nested, part10, ramp, shipped
from tests.decode.picture_files import colour, grey, jpeg, png, saved

RULE = DecodeRule(frame="first")
FILES = {
    "native": dicom(ramp(), PatientID="p1"),
    "jpeg 2000": shipped("MR_small_jp2klossless.dcm"),
    "jpeg-ls": shipped("MR_small_jpeg_ls_lossless.dcm"),
    "rle": shipped("MR_small_RLE.dcm"),
    "jpeg": shipped("SC_rgb_jpeg_dcmtk.dcm"),
    "lossless jpeg": shipped("SC_rgb_jpeg_gdcm.dcm"),
    "bmp": saved(Image.fromarray(grey()), "BMP"),
    "tiff": saved(Image.fromarray(colour()), "TIFF", compression="tiff_lzw"),
    "png": png(colour()),
    "photo": jpeg(colour()),
}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(seconds=20) as opened:
        yield opened


@pytest.fixture
def child() -> Iterator[DecoderProcess]:
    process = DecoderProcess(seconds=20)
    yield process
    process.close()


@pytest.mark.parametrize("name", FILES)
def test_the_sandbox_gives_what_decode_gives(sandbox: Sandbox, name: str) -> None:
    inside = sandbox.decode(FILES[name], rule=RULE, patient_key=b"key")
    outside = decode(FILES[name], rule=RULE, patient_key=b"key")
    np.testing.assert_array_equal(inside.pixels, outside.pixels)
    for field in ("mode", "format", "width", "height", "bits", "meta", "patient", "study", "series"):
        assert getattr(inside, field) == getattr(outside, field)


@pytest.mark.parametrize("data", [b"", FILES["native"][:-3], FILES["jpeg 2000"][:4000], FILES["tiff"][:60]])
def test_the_sandbox_refuses_in_the_words_of_decode(sandbox: Sandbox, data: bytes) -> None:
    with pytest.raises(RejectedInput) as outside:
        decode(data)
    with pytest.raises(RejectedInput) as inside:
        sandbox.decode(data)
    assert str(inside.value) == str(outside.value)


def test_rule_and_limits_reach_the_child(sandbox: Sandbox) -> None:
    data = dicom(ramp(), WindowCenter="0", WindowWidth="2000")
    lung = sandbox.decode(data, rule=DecodeRule(window=(-600, 1500)))
    np.testing.assert_array_equal(lung.pixels, decode(data, rule=DecodeRule(window="lung")).pixels)
    with pytest.raises(RejectedInput, match="more than the 10 allowed"):
        sandbox.decode(data, limits=DecodeLimits(max_pixels=10))


def test_one_child_serves_many_files(child: DecoderProcess) -> None:
    assert child.pid is None
    child.frames(FILES["native"])
    first = child.pid
    for name in ("bmp", "rle", "native", "tiff"):
        child.frames(FILES[name])
    with pytest.raises(RejectedInput):
        child.frames(FILES["native"][:-3])
    assert child.pid == first


def test_large_files_and_pictures_pass_the_pipes(child: DecoderProcess) -> None:
    pixels = np.random.default_rng(5).integers(0, 255, (2500, 3000), np.uint8)
    (decoded,), total = child.frames(dicom(pixels, Modality="OT"))[0]
    np.testing.assert_array_equal(decoded.pixels, pixels)
    assert total == 1


def test_a_file_is_not_blamed_for_a_child_that_died_before(child: DecoderProcess) -> None:
    child.frames(FILES["native"])
    first = child.pid
    assert first is not None
    os.kill(first, signal.SIGKILL)
    (decoded,), _ = child.frames(FILES["native"])[0]
    assert decoded.pixels.shape == ramp().shape
    assert child.pid != first


def test_a_child_that_hangs_is_ended_and_replaced() -> None:
    child = DecoderProcess(seconds=3)
    child.frames(FILES["native"])
    first = child.pid
    assert first is not None
    os.kill(first, signal.SIGSTOP)
    with pytest.raises(RejectedInput, match=r"longer than 3 seconds"):
        child.frames(FILES["native"])
    with pytest.raises(ProcessLookupError):
        os.kill(first, 0)
    assert child.frames(FILES["native"])[0].pictures[0].pixels.size
    child.close()


def test_a_child_that_hangs_before_it_reads_is_ended_too() -> None:
    child = DecoderProcess(seconds=3)
    child.frames(FILES["native"])
    assert child.pid is not None
    os.kill(child.pid, signal.SIGSTOP)
    with pytest.raises(RejectedInput, match=r"longer than 3 seconds"):
        child.frames(dicom(np.zeros((2500, 3000), np.uint8)))
    child.close()


def test_a_file_that_needs_more_memory_than_allowed_is_refused_and_the_next_one_is_not() -> None:
    child = DecoderProcess(memory_bytes=24_000_000, seconds=20)
    hungry = dicom(np.zeros((5000, 5000), np.uint16))
    for _ in range(2):
        with pytest.raises(RejectedInput, match=r"needs more memory|crashed"):
            child.frames(hungry)
        assert child.frames(FILES["native"])[0].pictures[0].pixels.size
    child.close()


def test_a_child_that_talks_nonsense_is_not_believed(child: DecoderProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    nonsense = "import sys, os; os.write(1, b'ready' + b'\\xff' * 8); os.read(0, 1)"
    monkeypatch.setattr("medloop.decode.pool._PROGRAM", nonsense)
    with pytest.raises(RejectedInput, match="crashed"):
        child.frames(FILES["native"])


def test_a_child_that_does_not_start_is_a_bug_and_not_the_file_s_fault(
    child: DecoderProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("medloop.decode.pool._PROGRAM", "raise SystemExit(1)")
    with pytest.raises(RuntimeError, match="does not start"):
        child.frames(FILES["native"])


def test_a_child_that_is_killed_while_it_starts_is_started_again(
    child: DecoderProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dies_four_times = (
        f"import os, pathlib; starts = pathlib.Path({str(tmp_path / 'starts')!r}); starts.touch(); "
        "number = starts.stat().st_size; starts.write_bytes(b'x' * (number + 1)); "
        "number < 4 and os.kill(os.getpid(), 9); "
    )
    monkeypatch.setattr("medloop.decode.pool._PROGRAM", dies_four_times + _PROGRAM)
    (decoded,), _ = child.frames(FILES["native"])[0]
    assert decoded.pixels.shape == ramp().shape


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_child_knows_no_secrets_and_writes_no_files(child: DecoderProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "planted-secret")
    child.frames(FILES["native"])
    process = Path(f"/proc/{child.pid}")
    assert b"planted-secret" not in (process / "environ").read_bytes() + (process / "cmdline").read_bytes()
    limits = (process / "limits").read_text()
    assert {
        line[:25].strip(): line[25:].split()[0]
        for line in limits.splitlines()
        if line.startswith(("Max file size", "Max core file size"))
    } == {"Max file size": "0", "Max core file size": "0"}
    assert all(str((process / f"fd/{number}").readlink()) == os.devnull for number in (0, 1, 2))


def test_many_threads_share_a_few_children() -> None:
    pictures = [ramp(low=-1000 + 20 * n) for n in range(12)]
    files = [dicom(picture, WindowCenter="0", WindowWidth="4000") for picture in pictures] * 5
    expected = [decode(data).pixels for data in files]
    with Sandbox(children=2, seconds=20) as sandbox, ThreadPoolExecutor(8) as threads:
        for found, wanted in zip(threads.map(sandbox.decode, files), expected, strict=True):
            np.testing.assert_array_equal(found.pixels, wanted)
        assert len([child for child in sandbox._all if child.pid]) <= 2


def test_a_closed_sandbox_has_no_children_and_takes_no_files() -> None:
    sandbox = Sandbox(seconds=20)
    sandbox.decode(FILES["native"])
    pid = sandbox._all[0].pid
    assert pid is not None
    sandbox.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(RuntimeError, match="closed"):
        sandbox.decode(FILES["native"])


ORPHAN = """
import os, sys
from medloop.decode.pool import DecoderProcess
child = DecoderProcess(seconds=20)
child.frames(bytes.fromhex(sys.stdin.read()))
print(child.pid, flush=True)
os.kill(os.getpid(), 9)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs pidfd")
def test_a_child_does_not_outlive_a_parent_that_was_killed() -> None:
    parent = subprocess.run(
        [sys.executable, "-c", ORPHAN], input=FILES["native"].hex(), capture_output=True, text=True, check=False
    )
    assert parent.returncode == -signal.SIGKILL, parent.stderr
    try:
        watch = os.pidfd_open(int(parent.stdout))
    except ProcessLookupError:
        return
    gone, _, _ = select.select([watch], [], [], 20)
    os.close(watch)
    assert gone


FORKER = """
import os, sys
from medloop.decode.pool import Sandbox
data = bytes.fromhex(sys.stdin.read())
with Sandbox(seconds=20) as sandbox:
    sandbox.decode(data)
    mine = sandbox._all[0].pid
    copy = os.fork()
    if copy == 0:
        sandbox.decode(data)
        other = sandbox._all[0].pid
        sandbox.close()
        os._exit(0 if other != mine else 1)
    assert os.waitpid(copy, 0)[1] == 0
    sandbox.decode(data)
    assert sandbox._all[0].pid == mine
"""


def test_a_forked_copy_gets_children_of_its_own() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", FORKER],
        input=FILES["native"].hex(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


BOMBS = {
    "deflate": part10(element("Modality", "CT") * 4_000_000, syntax=DEFLATED),
    "nested": part10(nested(10_000, defined=False)),
    "many elements": part10(element("Modality", "CT") * 1_000_000),
    "declared pixels": dicom(ramp(), Rows=65535, Columns=65535),
}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_takes_little_of_the_child(child: DecoderProcess, name: str) -> None:
    with pytest.raises(RejectedInput, match="DICOM"):
        child.frames(BOMBS[name])
    status = Path(f"/proc/{child.pid}/status").read_text(encoding="ascii")
    peak = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))
    assert peak < 200_000


def mutated(data: bytes, chance: random.Random) -> bytes:
    """Changes a file in one of the ways in which files break or are broken."""
    broken, place = bytearray(data), chance.randrange(len(data))
    kind = chance.choice(("bytes", "bytes", "tail bytes", "cut", "insert", "delete", "length"))
    if kind in ("bytes", "tail bytes"):
        start = len(data) // 2 if kind == "tail bytes" else 0
        for _ in range(chance.choice((1, 2, 4, 16))):
            broken[chance.randrange(start, len(data))] = chance.choice((0, 1, 127, 128, 255))
    elif kind == "cut":
        del broken[place:]
    elif kind == "insert":
        broken[place:place] = chance.randbytes(chance.randrange(1, 9))
    elif kind == "delete":
        del broken[place : place + chance.randrange(1, 9)]
    else:
        broken[place : place + 4] = chance.choice((b"\xff" * 4, b"\0" * 4, b"\x7f\xff\xff\xff", b"\xfe\xff\x00\xe0"))
    return bytes(broken)


@pytest.mark.parametrize("seed", range(4))
def test_broken_files_are_decoded_or_refused_and_nothing_else(
    sandbox: Sandbox, seed: int, capfd: pytest.CaptureFixture[str]
) -> None:
    chance = random.Random(seed)  # noqa: S311 - a repeatable fuzz, no secret
    names = list(FILES)
    refused = 0
    for _ in range(150):
        data = mutated(FILES[chance.choice(names)], chance)
        try:
            pixels = sandbox.decode(data, rule=RULE).pixels
        except RejectedInput:
            refused += 1
        else:
            assert pixels.dtype == np.uint8
    assert refused > 50
    capfd.readouterr()
    np.testing.assert_array_equal(sandbox.decode(FILES["jpeg-ls"]).pixels, decode(FILES["jpeg-ls"]).pixels)


def test_closing_waits_for_the_file_in_hand() -> None:
    sandbox = Sandbox(seconds=20)
    large = dicom(np.zeros((4000, 4000), np.uint16))
    shapes: list[tuple[int, ...]] = []
    thread = threading.Thread(target=lambda: shapes.append(sandbox.decode(large).pixels.shape))
    child = sandbox._all[0]
    thread.start()
    while not child._lock.locked() and thread.is_alive():
        pass
    sandbox.close()
    thread.join()
    assert shapes == [(4000, 4000)]
