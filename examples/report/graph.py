"""The graph: plan, summarise each document (one task each), check, loop back where needed, ask, write."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypedDict

from clew.graph import END, START, StateGraph
from clew.types import Command, Send, interrupt
from examples.report.ledger import Ledger
from examples.report.model import Model, Request, extractive, key_terms

ATTEMPTS = 3
SUFFIXES = frozenset({".md", ".txt", ".rst"})


@dataclass(frozen=True, slots=True)
class Summary:
    """What the model made of a document, and at which attempt."""

    text: str
    attempt: int


class State(TypedDict, total=False):
    folder: str
    output: str
    documents: list[str]
    summaries: Annotated[dict[str, Summary], operator.or_]
    rejected: list[str]
    draft: str
    written: str


class Job(TypedDict):
    """What one `summarise` task gets."""

    folder: str
    document: str
    attempt: int


@dataclass(frozen=True, slots=True)
class Office:
    """The nodes, with what they need: a model to write with and a ledger to sign."""

    model: Model
    ledger: Ledger

    def plan(self, state: State) -> State:
        """Which documents there are."""
        with self.ledger.entry("plan"):
            folder = Path(state["folder"])
            files = (path for path in folder.rglob("*") if path.suffix in SUFFIXES and path.is_file())
            found = sorted(path.relative_to(folder).as_posix() for path in files)
            if not found:
                raise ValueError(f"no documents ({', '.join(sorted(SUFFIXES))}) in {folder}")
            return {"documents": found}

    def summarise(self, job: Job) -> State:
        """One document; a later attempt may be longer."""
        with self.ledger.entry(f"summarise: {job['document']}, attempt {job['attempt']}"):
            text = (Path(job["folder"]) / job["document"]).read_text(encoding="utf-8", errors="replace")
            request = Request(job["document"], text, sentences=2 * job["attempt"], terms=key_terms(text))
            return {"summaries": {job["document"]: Summary(self.model(request), job["attempt"])}}

    def check(self, state: State) -> State:
        """Which summaries miss what their document is about, and have an attempt left."""
        with self.ledger.entry(f"check: attempt {max(summary.attempt for summary in state['summaries'].values())}"):
            return {"rejected": [document for document in state["documents"] if self.is_poor(state, document)]}

    def is_poor(self, state: State, document: str) -> bool:
        summary = state["summaries"][document]
        terms = key_terms((Path(state["folder"]) / document).read_text(encoding="utf-8", errors="replace"))
        mentioned = sum(term in summary.text.lower() for term in terms)
        return summary.attempt < ATTEMPTS and mentioned < min(4, len(terms))

    def draft(self, state: State) -> State:
        """The report as one text."""
        with self.ledger.entry("draft"):
            sections = (f"## {document}\n\n{state['summaries'][document].text}\n" for document in state["documents"])
            title = f"# Report on {len(state['documents'])} documents in {Path(state['folder']).name}\n"
            return {"draft": "\n".join([title, *sections])}

    def approve(self, state: State) -> Command[Literal["write", "__end__"]]:
        """Ask; only a yes lets the report be written."""
        answer = interrupt({"question": "write the report?", "output": state["output"], "draft": state["draft"]})
        return Command(goto="write" if str(answer).strip().lower() in {"y", "yes"} else END)

    def write(self, state: State) -> State:
        """The report as a file."""
        with self.ledger.entry("write"):
            output = Path(state["output"])
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text(state["draft"], encoding="utf-8")
            return {"written": str(output)}


def first_jobs(state: State) -> list[Send]:
    return [Send("summarise", job(state, document, 1)) for document in state["documents"]]


def next_jobs(state: State) -> list[Send] | Literal["draft"]:
    again = [Send("summarise", job(state, it, state["summaries"][it].attempt + 1)) for it in state["rejected"]]
    return again or "draft"


def job(state: State, document: str, attempt: int) -> Job:
    return {"folder": state["folder"], "document": document, "attempt": attempt}


def build(office: Office) -> StateGraph[Any]:
    """The graph, to be compiled with a checkpointer (it asks a question in the middle)."""
    graph = StateGraph(State)
    graph.add_node("plan", office.plan)
    graph.add_node("summarise", office.summarise)
    graph.add_node("check", office.check)
    graph.add_node("draft", office.draft)
    graph.add_node("approve", office.approve)
    graph.add_node("write", office.write)
    graph.add_edge(START, "plan")
    graph.add_conditional_edges("plan", first_jobs, ["summarise"])
    graph.add_edge("summarise", "check")
    graph.add_conditional_edges("check", next_jobs, ["summarise", "draft"])
    graph.add_edge("draft", "approve")
    graph.add_edge("write", END)
    return graph


def graph() -> StateGraph[Any]:
    """The graph with its default model, for `clew graph examples.report.graph:graph`."""
    return build(Office(extractive(), Ledger(Path("ledger.jsonl"))))
