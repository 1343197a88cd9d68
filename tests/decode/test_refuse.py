from __future__ import annotations

import pytest

from medloop.decode.refuse import OutOfMemory, malformed, reject, shielded
from medloop.errors import RejectedInput


class Panic(BaseException):
    """As a decoder written in Rust raises."""


def fail(error: BaseException) -> None:
    raise error


@pytest.mark.parametrize("error", [ValueError("DOE^JANE"), Panic("DOE^JANE"), KeyError("DOE^JANE")])
def test_what_a_library_raises_is_replaced_and_not_carried_along(error: BaseException) -> None:
    with pytest.raises(RejectedInput, match="Malformed DICOM: torn") as refusal:
        shielded(lambda: fail(error), lambda: malformed("torn"))
    assert refusal.value.__cause__ is None
    assert refusal.value.__context__ is None


def test_our_own_refusals_pass() -> None:
    with pytest.raises(RejectedInput, match="A cat"):
        shielded(lambda: fail(reject("A cat.")), lambda: malformed("torn"))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit()])
def test_the_wish_to_stop_passes(error: BaseException) -> None:
    with pytest.raises(type(error)):
        shielded(lambda: fail(error), lambda: malformed("torn"))


def test_memory_and_depth_have_words_of_their_own() -> None:
    with pytest.raises(OutOfMemory, match="needs more"):
        shielded(lambda: fail(MemoryError()), lambda: malformed("torn"))
    with pytest.raises(RejectedInput, match="nested too deep"):
        shielded(lambda: fail(RecursionError()), lambda: malformed("torn"))
