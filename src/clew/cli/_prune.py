"""`clew prune`: a retention policy applied to a database, after showing what goes."""

from __future__ import annotations

import re
import sys
from datetime import timedelta
from typing import Annotated, Any

from rich.filesize import decimal
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table
from rich.text import Text
from typer import BadParameter, Exit, Option

from clew.checkpoint._face import CheckpointSaver
from clew.cli import _show as show
from clew.cli._database import database_path, is_postgres, open_saver
from clew.cli._inspect import AsJson
from clew.cli._problem import CommandError
from clew.cli._run import DEFAULT_DB, Database
from clew.cli._values import to_json
from clew.retention import Retention, RetentionProgress, RetentionReport, SkippedThread, ThreadRetention, ThreadTtl

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_ALL = 2**31 - 1  # threads
_ROWS = 40  # threads shown by name; JSON has all


def duration(text: str) -> timedelta:
    """`30d` as a duration: a whole number and s, m, h, d or w."""
    found = re.fullmatch(r"(\d{1,9})([smhdw])", text.strip())
    if found is None:
        raise BadParameter(f"{text!r} is not a duration such as 90s, 45m, 12h, 30d or 8w")
    try:
        return timedelta(**{_UNITS[found[2]]: int(found[1])})
    except OverflowError:
        raise BadParameter(f"{text!r} is longer than there is time") from None


def prune(
    db: Database = DEFAULT_DB,
    keep_last: Annotated[int | None, Option(min=1, help="keep the newest N checkpoints of each namespace")] = None,
    older_than: Annotated[
        timedelta | None, Option(parser=duration, metavar="AGE", help="drop checkpoints older than this: 12h, 30d, 8w")
    ] = None,
    delete_threads_older_than: Annotated[
        timedelta | None, Option(parser=duration, metavar="AGE", help="delete threads untouched for this long")
    ] = None,
    delete_archived_older_than: Annotated[
        timedelta | None, Option(parser=duration, metavar="AGE", help="delete threads archived for this long")
    ] = None,
    expired: Annotated[bool, Option("--expired", help="delete or prune threads whose time to live is over")] = False,
    ttl: Annotated[
        timedelta | None,
        Option(parser=duration, metavar="AGE", help="with --expired: the time of threads that have none of their own"),
    ] = None,
    thread: Annotated[list[str] | None, Option("--thread", help="only this thread; may be given several times")] = None,
    dry_run: Annotated[bool, Option("--dry-run", help="show what would go, and change nothing")] = False,
    yes: Annotated[bool, Option("--yes", "-y", help="do not ask")] = False,
    as_json: AsJson = False,
) -> None:
    """Drop old checkpoints and threads; shows what goes, and asks. Status 1 if a thread cannot be read."""
    ages = (keep_last, older_than, delete_threads_older_than, delete_archived_older_than)
    if (ages == (None,) * 4) != expired or (expired and thread) or (ttl is not None and not expired):
        raise BadParameter(
            "say what goes: --keep-last, --older-than, --delete-threads-older-than or --delete-archived-older-than, for"
            " all threads or some (--thread); or --expired alone, with or without --ttl"
        )
    policy: Retention | ThreadTtl
    if expired:
        policy = ThreadTtl(default=ttl, sweep_limit=_ALL)
    else:
        policy = Retention(
            keep_last=keep_last,
            older_than=older_than,
            delete_threads_older_than=delete_threads_older_than,
            delete_archived_older_than=delete_archived_older_than,
        )
    with open_saver(db) as saver:
        before = file_size(db)
        check_threads(saver, thread)
        report = retain(saver, policy, thread, is_dry=True)
        if not as_json:
            show_plan(report)
        if report.details and not dry_run:
            if not yes and not is_agreed():
                show.notes.print("nothing was changed")
                raise Exit(1)
            report = retain(saver, policy, thread, is_dry=False)
    show_outcome(report, before, file_size(db), as_json=as_json)
    if report.skipped:
        raise Exit(1)


def is_agreed() -> bool:
    """Ask on standard error; anything but yes is no, and so is nobody who could answer."""
    show.notes.print("Drop them? [y/N] ", end="")
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def check_threads(saver: CheckpointSaver, threads: list[str] | None) -> None:
    known = {one.thread_id for one in saver.threads()} if threads else set[str]()
    for thread in threads or ():
        if thread not in known:
            raise CommandError(f"there is no thread {thread!r}", hint="`clew threads` lists them")


def retain(
    saver: CheckpointSaver, policy: Retention | ThreadTtl, threads: list[str] | None, *, is_dry: bool
) -> RetentionReport:
    """Look, or drop, with a bar on standard error if that is a terminal."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[gone]}"))
    with Progress(*columns, console=show.notes, transient=True, disable=not show.notes.is_terminal) as progress:
        bar = progress.add_task("looking" if is_dry else "dropping", total=None, gone="")

        def advance(now: RetentionProgress) -> None:
            gone = f"{now.checkpoints} checkpoints, {decimal(now.bytes)}"
            progress.update(bar, completed=now.threads, total=now.of, gone=gone)

        if isinstance(policy, ThreadTtl):
            return saver.expire(policy, dry_run=is_dry, on_progress=advance)
        return saver.retain(policy, dry_run=is_dry, thread_ids=threads, on_progress=advance)


def show_plan(report: RetentionReport) -> None:
    """Which threads lose what, those that lose most first."""
    table = Table(box=None, pad_edge=False, show_header=True, header_style="dim")
    table.add_column("thread")
    table.add_column("what goes")
    table.add_column("checkpoints", justify="right")
    table.add_column("bytes", justify="right")
    for one in sorted(report.details, key=lambda one: one.bytes, reverse=True)[:_ROWS]:
        what = Text("all of it", style="red") if one.is_deleted else Text("checkpoints")
        table.add_row(Text(name_of(one), style="bold"), what, str(one.checkpoints), decimal(one.bytes))
    if report.details:
        show.results.print(table)
    if report.threads > _ROWS:
        show.results.print(f"... and {report.threads - _ROWS} threads more")


def show_outcome(report: RetentionReport, before: int | None, after: int | None, *, as_json: bool) -> None:
    """What went or would go in all, what was skipped, and what the file weighs now."""
    if as_json:
        show.results.print(to_json(facts(report, before, after), indent=2))
        return
    went = "would drop" if report.dry_run and report.details else "dropped"
    deleted = f" and {report.deleted_threads} threads" if report.deleted_threads else ""
    what = f"{report.checkpoints} checkpoints of {report.threads} threads{deleted}, {decimal(report.bytes)}"
    show.show_fact(went, what if report.details else f"nothing of {report.examined} threads")
    if before is not None and after is not None and not report.dry_run:
        show.show_fact("file", f"{decimal(before)} before, {decimal(after)} after")
    for skipped in report.skipped:
        show.results.print(Text.assemble(("✗ ", "bold red"), f"{name_of(skipped)}: {skipped.message}"))


def facts(report: RetentionReport, before: int | None, after: int | None) -> dict[str, Any]:
    return {
        "dry_run": report.dry_run,
        "examined": report.examined,
        "threads": report.threads,
        "deleted_threads": report.deleted_threads,
        "checkpoints": report.checkpoints,
        "bytes": report.bytes,
        "file_before": before,
        "file_after": after,
        "details": [
            place_of(one) | {"checkpoints": one.checkpoints, "bytes": one.bytes, "deleted": one.is_deleted}
            for one in report.details
        ],
        "skipped": [place_of(one) | {"message": one.message} for one in report.skipped],
    }


def place_of(one: ThreadRetention | SkippedThread) -> dict[str, Any]:
    return {"tenant": one.tenant, "thread": one.thread_id}


def name_of(one: ThreadRetention | SkippedThread) -> str:
    return f"{one.tenant}: {one.thread_id}" if one.tenant else one.thread_id


def file_size(db: str) -> int | None:
    """Bytes of a SQLite database on disk, its write-ahead log included; None where there is no file to look at."""
    if is_postgres(db):
        return None
    path = database_path(db)
    return sum(file.stat().st_size for file in (path, path.with_name(f"{path.name}-wal")) if file.exists())
