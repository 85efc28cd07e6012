"""Exceptions are stored as records, and recording one never fails."""

from __future__ import annotations

import threading

import pytest

from clew.serde import Codec, StoredError, TypeRegistry
from tests.serde.exact import again


class QuotaError(Exception):
    def __init__(self, user: str, *, limit: int) -> None:
        super().__init__(f"{user} is over {limit}")
        self.limit = limit


class RudeError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


@pytest.mark.parametrize(
    "error",
    [
        ValueError("what", 1, ("a",)),
        KeyError("k"),
        StopIteration(3),
        OSError(2, "No such file or directory", "name.txt"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"),
        ImportError("no module", name="m", path="p"),
        KeyboardInterrupt(),
        SyntaxError("bad", ("f.py", 1, 2, "text", 1, 3)),
    ],
    ids=ascii,
)
def test_builtin_exception_comes_back_as_itself(error: BaseException) -> None:
    restored = again(error)

    assert type(restored) is type(error)
    assert (restored.args, str(restored)) == (error.args, str(error))


def test_file_name_of_an_os_error_is_kept() -> None:
    restored = again(OSError(2, "No such file or directory", "name.txt"))

    assert (type(restored), restored.errno, restored.filename) == (FileNotFoundError, 2, "name.txt")


def test_exception_group_keeps_its_members() -> None:
    restored = again(ExceptionGroup("both", [ValueError(1), QuotaError("ada", limit=3)]))

    assert type(restored) is ExceptionGroup
    assert [type(error) for error in restored.exceptions] == [ValueError, StoredError]


def test_notes_are_kept() -> None:
    error = ValueError("x")
    error.add_note("in node 'draft'")

    assert again(error).__notes__ == ["in node 'draft'"]


def test_user_exception_becomes_a_record_of_its_class_and_text() -> None:
    error = QuotaError("ada", limit=3)
    error.add_note("n")

    restored = again(again(error))

    assert type(restored) is StoredError
    assert restored.type_name == f"{__name__}.QuotaError"
    assert str(restored) == f"{__name__}.QuotaError: ada is over 3"
    assert (restored.args, restored.__notes__) == (("ada is over 3",), ["n"])


def test_registered_exception_comes_back_as_itself_without_its_constructor() -> None:
    restored = again(QuotaError("ada", limit=3), Codec(TypeRegistry([QuotaError])))

    assert type(restored) is QuotaError
    assert (str(restored), restored.limit) == ("ada is over 3", 3)


def test_argument_that_cannot_be_stored_becomes_its_repr() -> None:
    lock = threading.Lock()

    restored = again(ValueError("held", lock))

    assert restored.args == ("held", repr(lock))


def test_exception_whose_text_fails_is_still_recorded() -> None:
    restored = again(RudeError(RudeError()))

    assert type(restored) is StoredError
    assert restored.message == f"<{__name__}.RudeError>"
