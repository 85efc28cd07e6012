"""What a service counts, and what `GET /metrics` gives of it."""

from __future__ import annotations

from clew.server.metrics import Metrics


def test_runs_are_counted_from_claim_to_end() -> None:
    metrics = Metrics()
    metrics.slots(4)
    metrics.run_started(0.5)
    metrics.run_started(-0.001)  # clocks of two machines differ
    metrics.run_started(2.0)
    metrics.run_ended("success", 0.25)
    metrics.lease_lost()
    metrics.run_left()
    metrics.runs_retried(2)
    metrics.runs_dead()
    metrics.events_stored(7)

    told = metrics.as_json()

    assert told["clew_run_slots"] == 4
    assert told["clew_runs_started_total"] == 3
    assert told["clew_runs_active"] == 1
    assert told["clew_runs_ended_total"] == [{"labels": {"status": "success"}, "value": 1}]
    assert (told["clew_run_wait_seconds_count"], told["clew_run_wait_seconds_sum"]) == (3, 2.5)
    assert told["clew_run_duration_seconds_sum"] == [{"labels": {"status": "success"}, "value": 0.25}]
    assert told["clew_leases_lost_total"] == 1
    assert (told["clew_runs_retried_total"], told["clew_runs_dead_total"]) == (2, 1)
    assert told["clew_events_stored_total"] == 7


def test_metrics_of_two_applications_are_apart() -> None:
    one, two = Metrics(), Metrics()

    one.stream_opened()

    assert (one.as_json()["clew_streams_open"], two.as_json()["clew_streams_open"]) == (1, 0)


def test_text_has_a_help_for_each_metric_and_nothing_twice() -> None:
    metrics = Metrics()
    metrics.webhook("failed")
    metrics.cron("done")
    metrics.duty("retention", 0.1, is_failed=True)

    lines = metrics.as_text().decode().splitlines()

    assert 'clew_webhooks_total{outcome="failed"} 1.0' in lines
    assert 'clew_crons_fired_total{outcome="done"} 1.0' in lines
    assert 'clew_duties_total{duty="retention",outcome="failed"} 1.0' in lines
    assert [line for line in lines if "_created" in line] == []
    helps = [line.split()[2] for line in lines if line.startswith("# HELP")]
    assert len(helps) == len(set(helps)) == len([line for line in lines if line.startswith("# TYPE")])
