"""A sweep of threads whose time is up, as a generator of operations: it waits nowhere, so both drivers share it."""

from __future__ import annotations

from collections.abc import Callable

from clew.checkpoint._retention import Access, OnProgress, RetentionRun, Work
from clew.errors import CorruptRecordError, EncryptionError, SchemaVersionError
from clew.retention import (
    Retention,
    RetentionProgress,
    RetentionReport,
    SkippedThread,
    ThreadRetention,
    ThreadTtl,
)
from clew.storage import expiry as rules
from clew.storage.expiry import DELETE, Expired, Lost


def expiry(
    access: Callable[[str], Access],
    tenant: str,
    ttl: ThreadTtl,
    *,
    dry_run: bool = False,
    on_progress: OnProgress | None = None,
) -> Work[RetentionReport]:
    """Deal with threads of a tenant whose time is up; one that cannot be read is left as it is."""
    root, op, forget = access(tenant)
    found: list[Expired] = yield op("", lambda: rules.expired_threads(root(""), ttl))
    details: list[ThreadRetention] = []
    skipped: list[SkippedThread] = []
    for number, expired in enumerate(found, 1):
        place = root(expired.thread)
        try:
            if expired.strategy != DELETE:
                pruned = yield from _pruned(access, tenant, expired, dry_run=dry_run)
                details += pruned.details
                skipped += pruned.skipped
            else:
                rule = (lambda p=place: rules.measure_expired(p)) if dry_run else _deleting(place, expired)
                lost: Lost | None = yield op(expired.thread, rule, kind="read" if dry_run else "delete")
                if lost is not None:
                    details.append(ThreadRetention(expired.thread, *lost, is_deleted=True, tenant=tenant))
                    forget(expired.thread)
        except (CorruptRecordError, EncryptionError, SchemaVersionError) as error:
            skipped.append(SkippedThread(expired.thread, str(error), tenant))
        if on_progress is not None:
            sums = sum(each.checkpoints for each in details), sum(each.bytes for each in details)
            on_progress(RetentionProgress(number, len(found), *sums))
    return RetentionReport(dry_run, len(found), tuple(details), tuple(skipped))


def _deleting(place: rules.Place, expired: Expired) -> Callable[[], rules.Steps[Lost | None]]:
    return lambda: rules.delete_expired(place, expired)


def _pruned(access: Callable[[str], Access], tenant: str, expired: Expired, *, dry_run: bool) -> Work[RetentionReport]:
    """Leave a thread its newest checkpoints."""
    policy = Retention(keep_last=1)
    report = yield from RetentionRun(access, tenant, policy, dry_run=dry_run, thread_ids=[expired.thread]).work()
    if not dry_run and not report.skipped:
        root, op, _ = access(tenant)
        yield op(expired.thread, lambda: rules.note_swept(root(expired.thread), expired), kind="prune")
    return report
