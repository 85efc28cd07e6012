-- Background duties of the service: which replica does one now, by a lease on the database's clock, and when it is due again.

create table clew_duty (
    until bigint not null,
    due_at bigint not null,
    tenant text collate "C" not null,
    name text collate "C" not null,
    owner text collate "C" not null,
    primary key (tenant, name)
);

-- What is still to be told to somebody of a run that has ended: kept apart from the run, which may be gone before.

create table clew_delivery (
    created_at bigint not null,
    next_at bigint,
    attempt integer not null,
    tenant text collate "C" not null,
    run_id text collate "C" not null,
    thread text collate "C" not null,
    status text collate "C" not null,
    error text,
    body bytea,
    primary key (tenant, run_id)
);

create index clew_delivery_due on clew_delivery (tenant, next_at) where next_at is not null;

create index clew_delivery_over on clew_delivery (tenant, created_at) where next_at is null;

alter table clew_delivery alter column body set storage external;
