"""Drop access to files, the network and other processes, where Linux has Landlock (5.13) and seccomp."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path

# The same on every processor that Linux runs on today.
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
VERSION, PATH_BENEATH = 1, 1
NO_NEW_PRIVILEGES = 38
# Number of file rights by the version of Landlock.
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


# By processor: its audit number, and the system calls that a decoder does not need: socket, execve, execveat, ptrace,
# process_vm_readv and process_vm_writev.
FORBIDDEN = {
    "x86_64": (0xC000003E, (41, 59, 322, 101, 310, 311)),
    "aarch64": (0xC00000B7, (198, 221, 281, 117, 270, 271)),
}
SET_SECCOMP, FILTER = 22, 2
LOAD, EQUAL, AT_LEAST, RETURN = 0x20, 0x15, 0x35, 0x06
NUMBER_AT, PROCESSOR_AT = 0, 4
# The x32 numbers of the same calls on x86-64.
OTHER_NUMBERS = 0x40000000
ALLOW, REFUSE = 0x7FFF0000, 0x00050000 | errno.EPERM


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("value", ctypes.c_uint32))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("first", ctypes.POINTER(_Instruction)))


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("parent", ctypes.c_int32))


def read_only(places: Iterable[Path]) -> bool:
    """Allow this thread, and those that it starts, to read only these places; return False if the system cannot."""
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


def no_sockets_or_programs() -> bool:
    """Deny this thread, and those that it starts, sockets and new programs; return False if the system cannot."""
    if sys.platform != "linux" or platform.machine() not in FORBIDDEN:
        return False
    processor, numbers = FORBIDDEN[platform.machine()]
    left = len(numbers)
    # Each comparison holds how many instructions to skip; all of them lead to one of the last two.
    steps = [
        (LOAD, 0, 0, PROCESSOR_AT),
        (EQUAL, 0, left + 2, processor),
        (LOAD, 0, 0, NUMBER_AT),
        (AT_LEAST, left, 0, OTHER_NUMBERS),
        *((EQUAL, left - place - 1, 0, number) for place, number in enumerate(numbers)),
    ]
    steps[-1] = (EQUAL, 0, 1, numbers[-1])
    steps += [(RETURN, 0, 0, REFUSE), (RETURN, 0, 0, ALLOW)]
    program = (_Instruction * len(steps))(*(_Instruction(*step) for step in steps))
    libc = ctypes.CDLL(None, use_errno=True)
    filter_ = _Program(length=len(steps), first=program)
    return bool(
        libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0) == 0
        and libc.prctl(SET_SECCOMP, FILTER, ctypes.byref(filter_), 0, 0) == 0
    )


def libraries() -> list[Path]:
    """Return the folders of Python, its libraries and the system files they need; never the working folder."""
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
