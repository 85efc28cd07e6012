"""The main job: a report whose worker is killed in the middle, in real processes on a real database."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from examples.report.model import Request, extractive, key_terms, plugged_in, sentences

ROOT = Path(__file__).resolve().parents[2]

RIVER = """# River

The river carries the boat to the harbour. A boat without a crew drifts on the river.
The harbour closes at night.

The crew sleeps in the harbour. In the morning the crew rows the boat up the river, past the mill. The mill grinds corn.
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Six documents, of which at least one needs a second attempt."""
    folder = tmp_path / "documents"
    (folder / "inner").mkdir(parents=True)
    for number in range(5):
        (folder / f"river-{number}.md").write_text(RIVER)
    things = ("anchors", "bells", "casks", "docks", "eels")
    spread = "\n\n".join(f"About {thing} there is one sentence only, on {thing}." for thing in things)
    (folder / "inner" / "spread.txt").write_text(spread)
    return folder


def report(tmp_path: Path, *arguments: str, answer: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "examples.report", *arguments, "--work", str(tmp_path / "work")]
    return subprocess.run(command, cwd=ROOT, input=answer, capture_output=True, text=True, timeout=90)


def ledger(tmp_path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (tmp_path / "work" / "ledger.jsonl").read_text().splitlines()]


def test_killed_worker_is_resumed_and_nothing_finished_is_repeated(tmp_path: Path, folder: Path) -> None:
    result = report(tmp_path, str(folder), "--yes", "--kill", "--pace", "0.2")

    assert result.returncode == 0, result.stdout + result.stderr
    assert "killed with SIGKILL" in result.stdout
    killed, second, third = (int(worker) for worker in re.findall(r"^worker (\d+): ", result.stdout, re.MULTILINE))
    entries = ledger(tmp_path)
    finished = {entry["what"] for entry in entries if entry["worker"] == killed and entry["finished"]}
    shown = re.search(r"did not repeat:\n((?:    .*\n)+)", result.stdout)
    assert shown is not None
    not_repeated = {line.strip() for line in shown[1].splitlines()}
    assert "plan" in not_repeated
    assert sum(what.startswith("summarise") for what in not_repeated) >= 3
    assert not_repeated <= finished
    assert not not_repeated & {entry["what"] for entry in entries if entry["worker"] == second}
    assert {entry["what"] for entry in entries if entry["worker"] == third} == {"write"}


def test_every_document_is_in_the_report_and_poor_summaries_were_done_again(tmp_path: Path, folder: Path) -> None:
    output = tmp_path / "report.md"
    result = report(tmp_path, str(folder), "--yes", "--pace", "0", "--output", str(output))

    assert result.returncode == 0, result.stdout + result.stderr
    written = output.read_text()
    assert written.startswith("# Report on 6 documents in documents\n")
    assert re.findall(r"^## (.*)$", written, re.MULTILINE) == ["inner/spread.txt", *(f"river-{n}.md" for n in range(5))]
    ran = Counter(entry["what"] for entry in ledger(tmp_path) if entry["finished"])
    assert ran["summarise: inner/spread.txt, attempt 2"] == 1
    assert set(ran.values()) == {1}
    assert "(newest)" in result.stdout


def test_report_is_not_written_without_a_yes(tmp_path: Path, folder: Path) -> None:
    result = report(tmp_path, str(folder), "--pace", "0", answer="not yet\n")

    assert result.returncode == 0, result.stdout + result.stderr
    assert "write the report?" in result.stdout
    assert "not approved, nothing written" in result.stdout
    assert list((tmp_path / "work").glob("*.md")) == []


def test_model_plugs_in_by_one_argument(tmp_path: Path, folder: Path) -> None:
    output = tmp_path / "report.md"
    target = "tests.examples.chat:make"
    result = report(tmp_path, str(folder), "--yes", "--model", target, "--output", str(output))

    assert result.returncode == 0, result.stdout + result.stderr
    assert "A chat model read 'river-0.md'" in output.read_text()


def test_folder_without_documents_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    result = report(tmp_path, str(tmp_path / "empty"), "--yes")

    assert result.returncode == 1
    assert "error: no documents (.md, .rst, .txt) in" in result.stderr
    assert "Traceback" not in result.stderr


def test_unknown_model_is_a_message(tmp_path: Path, folder: Path) -> None:
    result = report(tmp_path, str(folder), "--yes", "--model", "no_such:model")

    assert result.returncode == 1
    assert "--model 'no_such:model' is not a module:factory that can be called" in result.stderr
    assert "Traceback" not in result.stderr


def test_folder_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    result = report(tmp_path, str(tmp_path / "none"))

    assert result.returncode == 2
    assert "is not a folder" in result.stderr


def test_extractive_model_gives_the_documents_own_sentences_in_their_order() -> None:
    found = sentences(RIVER)
    summary = extractive()(Request("river.md", RIVER, sentences=2, terms=key_terms(RIVER)))

    chosen = [sentence for sentence in found if sentence in summary]
    assert len(chosen) == 2
    assert summary == " ".join(chosen)


def test_key_terms_are_the_most_frequent_words() -> None:
    assert set(key_terms(RIVER, 4)) == {"river", "boat", "harbour", "crew"}


def test_model_that_is_not_there_is_named() -> None:
    with pytest.raises(ValueError, match="--model 'no_such:model' is not a module:factory that can be called"):
        plugged_in("no_such:model")
