"""Every check of the kits can fail: for each there is something broken that it catches."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import pytest

from clew.errors import ThreadConflictError
from clew.testing import ConformanceError, Opener, SaverConformance, StoreConformance, check
from clew.testing._kit import Conformance, checks
from tests.testing import broken
from tests.testing.test_savers import bytes_of

_SILENT = (broken.SilentLoser, broken.LoudLoser)

_OWN: dict[Any, tuple[type[Exception], ...]] = {  # what broken savers raise by themselves
    broken.OneLoop: (RuntimeError,),
    broken.DropsSubmitted: (ThreadConflictError,),
    broken.Overzealous: (ThreadConflictError,),
}

SAVERS: dict[str, tuple[Any, ...]] = {
    "a_thread_that_never_ran_has_nothing": (broken.MissingIsNothing,),
    "a_commit_reads_back": (broken.NoParents,),
    "a_channel_that_became_empty_is_gone": (broken.KeepsWhatBecameEmpty,),
    "every_step_of_a_long_thread_reads_back": (broken.LosesLongTails, broken.OldestFirst),
    "checkpoint_ids_only_grow": (broken.OldestFirst,),
    "histories_are_limited_filtered_and_cut": (broken.BrokenCursors,),
    "what_a_node_changes_later_is_not_stored": (broken.OneCopyForAll,),
    "standard_values_come_back_exactly": (broken.JsonValues,),
    "values_of_unknown_types_are_refused_when_they_are_written": (broken.KnowsEveryType,),
    "pending_writes_wait_and_then_belong_to_the_next_step": (broken.NoWritesOfThePast,),
    "a_claim_saves_its_writes": (broken.BrokenCursors,),
    "a_fork_and_its_original_never_see_each_other": (broken.NewestBranchOnly, broken.NoParents),
    "namespaces_and_threads_are_apart": (broken.FoldsNames,),
    "a_subgraph_remembers_along_the_line_of_its_root": (broken.NoLines,),
    "a_namespace_can_begin_from_another_one_s_checkpoint": (broken.BrokenCursors,),
    "of_two_runs_from_one_head_one_passes": _SILENT,
    "a_run_that_was_overtaken_writes_nothing_more": _SILENT,
    "each_write_of_a_run_that_was_overtaken_is_fenced": _SILENT,
    "one_of_many_that_race_passes_in_every_round": _SILENT,
    "threads_do_not_wait_for_each_other_s_conflicts": (broken.SilentLoser, broken.DropsSubmitted),
    "submitted_writes_keep_their_order_and_are_seen_by_their_run": (broken.DropsSubmitted,),
    "a_submitted_write_that_failed_fails_everything_after_it": (broken.SilentLoser,),
    "event_loops_and_blocking_callers_share_a_saver": (broken.OneLoop, broken.DropsSubmitted),
    "bad_thread_ids_are_refused_by_name": (broken.TakesAnyName,),
    "nothing_of_another_tenant_is_ever_found": (broken.NoTenants,),
    "a_bound_saver_serves_no_other_tenant": (broken.LeavesItsTenant, broken.NoTenants),
    "checkpoints_are_read_back_by_id": (broken.BrokenFace,),
    "standard_values_come_back_exactly_by_id": (broken.BrokenFace,),
    "lists_are_ordered_filtered_limited_and_cut": (broken.BrokenFace,),
    "writes_are_kept_in_order_and_only_special_ones_are_replaced": (broken.BrokenFace,),
    "a_checkpoint_beside_the_newest_is_a_fork": (broken.BrokenFace,),
    "a_deleted_thread_leaves_nothing_and_stops_its_runs": (broken.Forgetful,),
    "pruning_keeps_the_newest_of_each_namespace_as_it_was": (broken.Forgetful, broken.Overzealous),
    "a_copy_is_a_thread_of_its_own": (broken.Forgetful, broken.Overzealous),
    "deleting_runs_takes_their_checkpoints_alone": (broken.Forgetful, broken.Overzealous),
    "bad_thread_ids_are_refused_by_every_method": (broken.Forgetful,),
    "a_config_names_its_tenant": (broken.NoTenants,),
    "maintenance_reaches_one_tenant_alone": (broken.MaintainsAll, broken.Forgetful),
    "what_was_stored_is_there_when_it_is_opened_again": ("saver_of_the_moment",),
    "two_savers_on_one_storage_see_each_other": ("saver_on_a_copy", "saver_of_the_moment"),
    "what_was_acknowledged_survives_a_kill": ("saver_on_a_copy",),
    "two_processes_on_one_thread_lose_no_update": ("saver_on_a_copy",),
    "a_chat_weighs_what_its_messages_weigh": (broken.FullValues,),
    "a_commit_writes_what_changed": (broken.FullValues,),
}
STORES: dict[str, tuple[Any, ...]] = {
    "items_are_put_got_replaced_and_deleted": (broken.DeletesNothing,),
    "standard_values_come_back_exactly": (broken.StoresJson,),
    "what_a_caller_holds_is_its_own": (broken.SharesValues,),
    "values_of_unknown_types_are_refused_and_what_was_there_stays": (broken.TakesAnything,),
    "namespaces_are_segments": (broken.JoinsLabels,),
    "labels_are_never_joined": (broken.FoldsLabels,),
    "bad_namespaces_are_refused_by_name": (broken.SwallowsErrors,),
    "keys_are_only_data": (broken.FoldsKeys,),
    "filters_compare_as_they_say": (broken.IgnoresFilters,),
    "operations_that_make_no_sense_are_refused": (broken.SwallowsErrors,),
    "pages_fit_together": (broken.IgnoresOffsets,),
    "reads_of_a_batch_see_what_was_before_and_the_last_put_wins": (broken.OneByOne,),
    "callers_at_once_lose_nothing": (broken.DropsSome,),
    "items_are_there_when_it_is_opened_again": ("store_of_the_moment",),
    "puts_that_returned_survive_a_kill": ("store_on_a_copy",),
}


def with_subject(kit: type[Conformance], subject: Any) -> type[Conformance]:
    """A kit that tests a broken class, or what a function of `broken` opens."""

    class Broken(kit):  # type: ignore[valid-type,misc] - a class that is an argument
        is_durable = isinstance(subject, str)
        has_size = not isinstance(subject, str)

        @contextmanager
        def storage(self) -> Iterator[None]:
            with tempfile.TemporaryDirectory() as folder:
                self.path = f"{folder}/storage"
                yield

        def opener(self) -> Opener | None:
            return Opener(f"tests.testing.broken:{subject}", self.path) if isinstance(subject, str) else None

        @contextmanager
        def open(self) -> Iterator[Any]:
            with ExitStack() as stack:
                if isinstance(subject, str):
                    yield stack.enter_context(super().open())
                elif hasattr(subject, "from_conn_string"):
                    yield stack.enter_context(subject.from_conn_string(":memory:"))
                else:
                    self.opened = subject()
                    yield self.opened

        def stored_bytes(self) -> int:
            return bytes_of(self.opened)

    return Broken


def test_there_is_a_mutant_for_every_check() -> None:
    assert sorted(f"test_{name}" for name in SAVERS) == checks(SaverConformance)
    assert sorted(f"test_{name}" for name in STORES) == checks(StoreConformance)


def cases(mutants: dict[str, Any]) -> list[Any]:
    names = [(name, subject) for name, subjects in mutants.items() for subject in subjects]
    return [pytest.param(*case, id=f"{case[0]}-{getattr(case[1], '__name__', case[1])}") for case in names]


@pytest.mark.parametrize(("name", "mutant"), cases(SAVERS))
def test_check_catches_a_broken_saver(name: str, mutant: Any) -> None:
    report = check(with_subject(SaverConformance, mutant), only=[f"test_{name}"])

    assert not report.is_passed
    assert report.passed == ()
    assert str(report).startswith(f"0 passed, 1 failed\n✗ test_{name}\n")
    assert isinstance(report.failed[f"test_{name}"], (ConformanceError, *_OWN.get(mutant, ())))


@pytest.mark.parametrize(("name", "mutant"), cases(STORES))
def test_check_catches_a_broken_store(name: str, mutant: Any) -> None:
    report = check(with_subject(StoreConformance, mutant), only=[f"test_{name}"])

    assert list(report.failed) == [f"test_{name}"]
    assert isinstance(report.failed[f"test_{name}"], ConformanceError)
