"""What conformance kits are made of: checks that run under pytest and without it, and words that say what is wrong.

A kit is a class whose methods named `test_...` are its checks. Under pytest a subclass named `Test...` is enough;
`check` runs a kit anywhere and gives a `Report`. Nothing here imports pytest.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from functools import reduce
from typing import Any, ClassVar, TypeVar

C = TypeVar("C", bound=Callable[..., Any])

_PREFIX = "test_"


class ConformanceError(AssertionError):
    """A check has found something that does not keep the contract."""


class Opener:
    """How another process opens the same storage: `name` is "module:function", called with the arguments.

    The function gives a context manager, whose object is what is tested. Arguments are plain JSON values.
    """

    def __init__(self, name: str, *args: Any, **kwargs: Any) -> None:
        self.text = json.dumps([name, args, kwargs])

    def __call__(self) -> AbstractContextManager[Any]:
        """Open the storage in this process."""
        return opened(self.text)


def opened(text: str) -> AbstractContextManager[Any]:
    """What the `text` of an `Opener` opens."""
    name, args, kwargs = json.loads(text)
    module, _, path = name.partition(":")
    function: Any = reduce(getattr, path.split("."), importlib.import_module(module))
    return function(*args, **kwargs)


class Conformance:
    """The base of kits. Every check has a storage of its own, which `storage` makes and removes.

    A subclass implements `opener` (storage that other processes reach) or `open`. What it cannot do, it says in the
    attributes named `has_...` or `is_...`: the checks that need it are not there then.
    """

    is_durable: ClassVar[bool] = True
    """Whether what was acknowledged outlives the process, and `opener` gives a way for others to reach it."""

    _stack: ExitStack | None = None
    _subject: Any = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in dir(cls):
            needed: str | None = getattr(getattr(cls, name), "needs", None) if name.startswith(_PREFIX) else None
            if needed is not None and not getattr(cls, needed):
                setattr(cls, name, None)

    # What a subclass says

    def storage(self) -> AbstractContextManager[Any]:
        """Make what one check keeps its data in, and remove it at the end; by default there is nothing to do."""
        return contextlib.nullcontext()

    def opener(self) -> Opener | None:
        """How this check's storage is opened, by any process; None: only `open` can."""
        return None

    def open(self) -> AbstractContextManager[Any]:
        """Open this check's storage; opened again, it is the same storage where `is_durable`."""
        opener = self.opener()
        if opener is None:
            raise NotImplementedError("a conformance kit implements opener() or open()")
        return opener()

    # What checks use

    @property
    def subject(self) -> Any:
        """The object that is tested, opened when it is first asked for and closed at the end of the check."""
        if self._subject is None:
            assert self._stack is not None, "setup_method was called"
            self._subject = self._stack.enter_context(self.open())
        return self._subject

    def setup_method(self) -> None:
        """Begin a check."""
        self._stack = ExitStack()
        self._stack.enter_context(self.storage())

    def teardown_method(self) -> None:
        """End a check; may be called again."""
        stack, self._stack, self._subject = self._stack, None, None
        if stack is not None:
            stack.close()

    def child(self, *arguments: str) -> subprocess.Popen[str]:
        """Another process that works on the same storage; see `clew.testing._child`."""
        opener = self.opener()
        if opener is None:
            raise NotImplementedError("a kit for durable storage implements opener()")
        return subprocess.Popen(
            [sys.executable, "-m", "clew.testing._child", opener.text, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            text=True,
        )


def needs(capability: str) -> Callable[[C], C]:
    """Mark a check that is only there if the kit's attribute `capability` is true."""

    def mark(check: C) -> C:
        check.needs = capability  # type: ignore[attr-defined] - functions take attributes
        return check

    return mark


@dataclass(frozen=True, slots=True)
class Report:
    """What came of a kit: the checks that passed, and the errors of those that failed, by name."""

    passed: tuple[str, ...] = ()
    failed: Mapping[str, BaseException] = field(default_factory=dict[str, BaseException])

    @property
    def is_passed(self) -> bool:
        """Whether every check passed."""
        return not self.failed

    def __str__(self) -> str:
        lines = [f"{len(self.passed)} passed, {len(self.failed)} failed"]
        for name, error in self.failed.items():
            lines += [f"✗ {name}", *(f"    {line}" for line in f"{type(error).__name__}: {error}".splitlines())]
        return "\n".join(lines)

    def tracebacks(self) -> str:
        """Where each failed check failed."""
        return "\n".join("".join(traceback.format_exception(error)) for error in self.failed.values())


def checks(kit: type[Conformance]) -> list[str]:
    """The names of a kit's checks, sorted."""
    return [name for name in sorted(dir(kit)) if name.startswith(_PREFIX) and callable(getattr(kit, name))]


def check(kit: type[Conformance], only: Iterable[str] = ()) -> Report:
    """Run the checks of a kit, or `only` those named, without pytest; a failed check does not stop the others."""
    passed: list[str] = []
    failed: dict[str, BaseException] = {}
    for name in tuple(only) or checks(kit):
        one = kit()
        try:
            one.setup_method()
            try:
                getattr(one, name)()
            finally:
                one.teardown_method()
        except Exception as error:
            failed[name] = error
        else:
            passed.append(name)
    return Report(tuple(passed), failed)


def equal(actual: object, expected: object, what: str) -> None:
    """Raise unless the two are equal; `what` names the fact."""
    if actual != expected:
        raise ConformanceError(f"{what}\n  expected: {_shown(expected)}\n  found:    {_shown(actual)}")


def holds(condition: object, what: str) -> None:
    """Raise unless the condition holds; `what` names the fact."""
    if not condition:
        raise ConformanceError(what)


@contextlib.contextmanager
def refused(error: type[BaseException], what: str) -> Generator[None]:
    """Raise unless the block raises `error`; `what` says what is refused."""
    try:
        yield
    except error:
        return
    except Exception as other:
        raise ConformanceError(f"{what}: raised {type(other).__name__}, not {error.__name__}") from other
    raise ConformanceError(f"{what}: did not raise {error.__name__}")


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 400 else f"{text[:390]}... ({len(text)} characters)"
