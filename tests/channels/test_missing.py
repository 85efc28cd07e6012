"""The sentinel for "nothing here"."""

from __future__ import annotations

import copy
import pickle

from clew._missing import MISSING


def test_missing_is_one_object_after_any_copy() -> None:
    assert copy.copy(MISSING) is MISSING
    assert copy.deepcopy([MISSING])[0] is MISSING
    assert all(pickle.loads(pickle.dumps(MISSING, protocol)) is MISSING for protocol in range(6))


def test_missing_shows_its_name() -> None:
    assert repr(MISSING) == "MISSING"
    assert f"{[MISSING]}" == "[MISSING]"
