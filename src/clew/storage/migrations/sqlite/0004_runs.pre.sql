-- Runs of the service. A worker holds a run by a lease, on the database's clock; `epoch` counts who has held it, and fences
-- those that have lost it. A thread has at most one run that is running.

create table clew_run (
    created_at integer not null,
    updated_at integer not null,
    run_after integer not null,
    lease_until integer,
    ended_at integer,
    epoch integer not null,
    priority integer not null,
    attempt integer not null,
    is_ephemeral integer not null,
    tenant text not null,
    run_id text not null,
    thread text not null,
    user_id text not null,
    assistant_id text not null,
    status text not null,
    strategy text not null,
    owner text,
    cancel text,
    idempotency_key text,
    metadata text not null,
    began text,
    error text,
    body blob not null,
    primary key (tenant, run_id)
);

create unique index clew_run_running on clew_run (tenant, thread) where status = 'running';

create index clew_run_pending on clew_run (priority, created_at, run_id) where status = 'pending';

create index clew_run_waiting on clew_run (tenant, thread, created_at, run_id) where status = 'pending';

create index clew_run_active on clew_run (tenant, thread) where status in ('pending', 'running');

create index clew_run_leased on clew_run (owner, lease_until) where status = 'running';

create index clew_run_thread on clew_run (tenant, thread, created_at);

create unique index clew_run_key on clew_run (tenant, idempotency_key) where idempotency_key is not null;

-- What a run has shown, for whoever reads along or comes back: in batches, `seq` is the number of a batch's last event.

create table clew_event (
    seq integer not null,
    tenant text not null,
    run_id text not null,
    thread text not null,
    body blob not null,
    primary key (tenant, run_id, seq)
);
