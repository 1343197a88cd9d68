"""Refusals in medloop's own words, since the messages of libraries quote the file."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from medloop.errors import RejectedInput

SUPPORTED = "PNG, JPEG, BMP, TIFF or DICOM"
_HINT = "Export the image again from its source, or leave it out."

Result = TypeVar("Result")


class OutOfMemory(RejectedInput):
    """One file whose decoding needs more memory than it may use."""


def reject(problem: str, hint: str = _HINT) -> RejectedInput:
    """Build the error for one file."""
    return RejectedInput(problem, hint)


def cut_off(kind: str) -> RejectedInput:
    """Build the error for a file that ends too early or contradicts itself."""
    return reject(f"The {kind} file is cut off or damaged.")


def malformed(reason: str) -> RejectedInput:
    """Build the error for a DICOM file that breaks the rules of its format."""
    return reject(f"Malformed DICOM: {reason}.")


def shielded(work: Callable[[], Result], refusal: Callable[[], RejectedInput]) -> Result:
    """Run a library on a hostile file, and replace whatever it raises by a refusal."""
    try:
        return work()
    except (RejectedInput, KeyboardInterrupt, SystemExit):
        raise
    except MemoryError:
        rejected: RejectedInput = OutOfMemory(
            "Decoding this file needs more memory than one file may use.", "Scale the image down, or raise the limit."
        )
    except BaseException as exc:  # noqa: BLE001 - a panic in a Rust decoder is not an Exception
        rejected = malformed("nested too deep") if isinstance(exc, RecursionError) else refusal()
    # Outside the handler, so that the library's error is not kept as context.
    raise rejected
