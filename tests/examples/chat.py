"""A stand-in for a chat model: an object with `invoke`, whose answers are messages."""

from __future__ import annotations

import re
from types import SimpleNamespace


class Chat:
    def invoke(self, prompt: str) -> SimpleNamespace:
        document = re.search(r"document ('[^']*')", prompt)
        assert document is not None
        return SimpleNamespace(content=f"A chat model read {document[1]}. {prompt.partition('Mention: ')[2]}")


def make() -> Chat:
    return Chat()
