"""What a decoder's process may still touch, told by such processes themselves."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

from medloop.decode.pool import DecoderProcess
from tests.decode.dicom_files import dicom, ramp

TRIES = """
import json, socket, subprocess, sys
from pathlib import Path
from medloop.decode import confine

def fails(work):
    try:
        work()
    except OSError as error:
        return type(error).__name__
    return ""

def by_path():
    with socket.socket(socket.AF_UNIX) as one:
        one.connect(sys.argv[3])

def by_datagram():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        one.sendto(b"x", ("127.0.0.1", port))

confined = confine.read_only(confine.libraries())
filtered = confine.no_sockets_or_programs()
import numpy, cv2, pydicom  # which lie where it may read
secret, port = Path(sys.argv[1]), int(sys.argv[2])
print(json.dumps({
    "confined": confined,
    "read": fails(secret.read_text),
    "write": fails(lambda: secret.with_name("new").write_text("x")),
    "delete": fails(secret.unlink),
    "list": fails(lambda: list(secret.parent.iterdir())),
    "home": fails(lambda: list(Path.home().iterdir())),
    "filtered": filtered,
    "unix": fails(by_path),
    "datagram": fails(by_datagram),
    "program": fails(lambda: subprocess.run(["true"])),
    "connect": fails(lambda: socket.create_connection(("127.0.0.1", port))),
}))
"""


def has_landlock() -> bool:
    ask = "import ctypes; print(ctypes.CDLL(None).syscall(444, None, 0, 1))"
    return sys.platform == "linux" and int(subprocess.check_output([sys.executable, "-c", ask])) >= 4


def test_a_confined_process_reads_its_libraries_and_nothing_of_the_project(tmp_path: Path) -> None:
    secret = tmp_path / "secrets.yaml"
    secret.write_text("feedback: {journal_key: planted}", encoding="utf-8")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        by_path = str(tmp_path / "socket")
        with socket.socket(socket.AF_UNIX) as other:
            other.bind(by_path)
        words = [str(secret), str(listener.getsockname()[1]), by_path]
        command = [sys.executable, "-W", "ignore", "-c", TRIES, *words]
        found = json.loads(subprocess.check_output(command, cwd=tmp_path))
    denied = ("read", "write", "delete", "list", "home", "connect", "unix", "datagram", "program")
    assert found.pop("filtered") == has_landlock()
    assert found == {
        "confined": has_landlock(),
        **{name: "PermissionError" if has_landlock() else "" for name in denied},
    }


def test_the_decoders_are_confined() -> None:
    child = DecoderProcess()
    try:
        child.frames(dicom(ramp(16)))
        status = Path(f"/proc/{child.pid}/status").read_text("ascii") if sys.platform == "linux" else ""
        assert ("NoNewPrivs:\t1" in status) == has_landlock()
    finally:
        child.close()
