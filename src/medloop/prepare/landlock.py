"""Giving up rights on files and on the network, where the system has Landlock (Linux 5.13 and later)."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Iterable
from pathlib import Path

# The same on every processor that Linux runs on today.
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
VERSION, PATH_BENEATH = 1, 1
NO_NEW_PRIVILEGES = 38
# Bits of rights on files, in the order in which versions of Landlock brought them.
FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
EXECUTE, WRITE_FILE, READ_FILE, READ_FOLDER = (1 << bit for bit in range(4))
# From version 4 on: listening and connecting by TCP.
NETWORK_RIGHTS = 0b11
SIGNALS_AND_SOCKETS = 0b11
SYSTEM = (
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/lib",
    "/lib64",
    "/proc/self",
    "/proc/cpuinfo",
    "/sys/devices/system",
)


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def read_only(places: Iterable[Path]) -> bool:
    """Leave this thread, and those that it starts, to read these places alone; False where the system cannot."""
    if sys.platform != "linux":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    version = libc.syscall(CREATE_RULESET, None, 0, VERSION)
    if version < 1:
        return False
    rights = _Ruleset(
        files=(1 << FILE_RIGHTS[min(version, max(FILE_RIGHTS))]) - 1,
        network=NETWORK_RIGHTS if version >= 4 else 0,
        scoped=SIGNALS_AND_SOCKETS if version >= 6 else 0,
    )
    size = ctypes.sizeof(rights) if version >= 6 else 16 if version >= 4 else 8
    ruleset = libc.syscall(CREATE_RULESET, ctypes.byref(rights), size, 0)
    if ruleset < 0:
        return False
    try:
        for place in places:
            _allow(libc, ruleset, place, READ_FILE | (EXECUTE | READ_FOLDER if place.is_dir() else 0))
        _allow(libc, ruleset, Path(os.devnull), READ_FILE | WRITE_FILE)
        return bool(libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0 and libc.syscall(RESTRICT_SELF, ruleset, 0) == 0)
    finally:
        os.close(ruleset)


def libraries() -> list[Path]:
    """Where Python and its libraries lie, and what these ask of the machine; never the folder that one works in."""
    here = Path.cwd().resolve()
    found = [Path(path).resolve() for path in (sys.prefix, sys.base_prefix, *sys.path) if path]
    places = [path for path in found if not here.is_relative_to(path)]
    return [*places, *(path for path in map(Path, SYSTEM) if path.exists())]


def _allow(libc: ctypes.CDLL, ruleset: int, place: Path, rights: int) -> None:
    try:
        parent = os.open(place, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        libc.syscall(ADD_RULE, ruleset, PATH_BENEATH, ctypes.byref(_Beneath(allowed=rights, parent=parent)), 0)
    finally:
        os.close(parent)
