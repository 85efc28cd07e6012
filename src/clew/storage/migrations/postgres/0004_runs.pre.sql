-- Runs of the service. A worker holds a run by a lease, on the database's clock; `epoch` counts who has held it, and fences
-- those that have lost it. A thread has at most one run that is running.

create table clew_run (
    created_at bigint not null,
    updated_at bigint not null,
    run_after bigint not null,
    lease_until bigint,
    ended_at bigint,
    epoch bigint not null,
    priority integer not null,
    attempt integer not null,
    is_ephemeral integer not null,
    tenant text collate "C" not null,
    run_id text collate "C" not null,
    thread text collate "C" not null,
    user_id text collate "C" not null,
    assistant_id text collate "C" not null,
    status text collate "C" not null,
    strategy text collate "C" not null,
    owner text collate "C",
    cancel text collate "C",
    idempotency_key text collate "C",
    metadata text collate "C" not null,
    began text collate "C",
    error text collate "C",
    body bytea not null,
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
    tenant text collate "C" not null,
    run_id text collate "C" not null,
    thread text collate "C" not null,
    body bytea not null,
    primary key (tenant, run_id, seq)
);

alter table clew_run alter column body set storage external;

alter table clew_event alter column body set storage external;
