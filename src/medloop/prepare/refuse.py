"""Refusals in words of our own, since the libraries' words quote the file."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from medloop.errors import RejectedInput

SUPPORTED = "PNG, JPEG, BMP, TIFF or DICOM"
ANY_IMAGE = f"an image must be a readable {SUPPORTED} file"
_HINT = "export it again from its source, or leave it out"

Result = TypeVar("Result")


class OutOfMemory(RejectedInput):
    """One file whose decoding needs more memory than it may have."""


def reject(found: str, *, must: str = ANY_IMAGE, hint: str = _HINT) -> RejectedInput:
    """Builds the error for one file."""
    return RejectedInput(must, found=found, hint=hint)


def cut_off(kind: str) -> RejectedInput:
    """Builds the error for a file that ends too early or contradicts itself."""
    return reject(f"a {kind} file that is cut off or damaged")


def malformed(why: str) -> RejectedInput:
    """Builds the error for a DICOM file that breaks the rules of its format."""
    return reject(f"malformed DICOM: {why}", must="a DICOM file must be well formed")


def shielded(work: Callable[[], Result], refusal: Callable[[], RejectedInput]) -> Result:
    """Runs a library on a hostile file, and lets nothing of what it raises through."""
    try:
        return work()
    except (RejectedInput, KeyboardInterrupt, SystemExit):
        raise
    except MemoryError:
        answer: RejectedInput = OutOfMemory(
            "decoding must fit in the memory that one file may have",
            found="a file that needs more",
            hint="scale the image down, or raise the limit",
        )
    except BaseException as exc:  # noqa: BLE001 - a panic in a Rust decoder is not an Exception
        answer = malformed("nested too deep") if isinstance(exc, RecursionError) else refusal()
    # Outside the handler, so that the library's error does not travel along as context.
    raise answer
