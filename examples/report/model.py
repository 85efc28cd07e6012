"""What summarises a document: by default a small extractive model that needs no network and no key.

A chat model plugs in by `--model module:factory`. The factory is called without arguments and gives either a function
from prompt to text, or an object whose `invoke(prompt)` returns a text or a message with `.content` (such as a
langchain-core chat model).
"""

from __future__ import annotations

import importlib
import re
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

FREQUENT = frozenset(
    """
    a about after all also an and any are as at be because been before but by can do does for from had has have how if
    in into is it its more no not of on one only or other our out over same so such than that the their them then there
    these they this to two up use used was way we what when where which while who will with without you your
    """.split()
)


@dataclass(frozen=True, slots=True)
class Request:
    """One summary to write: of what text, how long, and which terms it should mention."""

    document: str
    text: str
    sentences: int
    terms: tuple[str, ...]

    def prompt(self) -> str:
        """The request in words, for a chat model."""
        return (
            f"Summarise the document {self.document!r} in at most {self.sentences} sentences of plain text. "
            f"Mention: {', '.join(self.terms)}.\n\n{self.text}"
        )


Model = Callable[[Request], str]


def extractive(pace: float = 0.0) -> Model:
    """The default model: the document's own most telling sentences, in their order.

    `pace` is how many seconds it pretends to think, so that a run is slow enough to watch.
    """

    def summarise(request: Request) -> str:
        time.sleep(pace)
        found = sentences(request.text)
        weight = Counter(words(request.text))
        best = sorted(range(len(found)), key=lambda place: (-score(found[place], weight), place))
        return " ".join(found[place] for place in sorted(best[: request.sentences]))

    return summarise


def plugged_in(target: str) -> Model:
    """The model that the factory at `module:factory` makes; raises ValueError with what is wrong with `target`."""
    module, _, name = target.partition(":")
    try:
        made: Any = getattr(importlib.import_module(module), name)()
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"--model {target!r} is not a module:factory that can be called: {error}") from error
    call = made.invoke if hasattr(made, "invoke") else made

    def summarise(request: Request) -> str:
        answer = call(request.prompt())
        return str(getattr(answer, "content", answer))

    return summarise


def key_terms(text: str, count: int = 5) -> tuple[str, ...]:
    """The words that `text` uses most, frequent English words aside."""
    return tuple(word for word, _ in Counter(words(text)).most_common(count))


def words(text: str) -> list[str]:
    return [word for word in re.findall(r"[a-z][a-z-]{2,}", prose(text).lower()) if word not in FREQUENT]


def sentences(text: str) -> list[str]:
    paragraphs = (" ".join(paragraph.split()) for paragraph in re.split(r"\n\s*\n", prose(text)))
    found = (part.strip() for paragraph in paragraphs for part in re.split(r"(?<=[.!?])\s+(?=[A-Z])", paragraph))
    return [sentence for sentence in found if len(sentence.split()) >= 4]


def prose(text: str) -> str:
    """The text of a Markdown document without its code, tables, headings and link targets."""
    text = re.sub(r"```.*?```", "\n\n", text, flags=re.DOTALL)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    lines = ("" if line.lstrip().startswith(("#", "|", ">", "<")) else line for line in text.splitlines())
    return "\n".join(lines).replace("**", "").replace("`", "")


def score(sentence: str, weight: Counter[str]) -> float:
    found = words(sentence)
    return sum(weight[word] for word in set(found)) / (len(found) + 4)
