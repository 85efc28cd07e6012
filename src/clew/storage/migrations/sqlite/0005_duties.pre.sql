-- Background duties of the service: which replica does one now, by a lease on the database's clock, and when it is due again.

create table clew_duty (
    until integer not null,
    due_at integer not null,
    tenant text not null,
    name text not null,
    owner text not null,
    primary key (tenant, name)
);

-- What is still to be told to somebody of a run that has ended: kept apart from the run, which may be gone before.

create table clew_delivery (
    created_at integer not null,
    next_at integer,  -- null: it is over
    attempt integer not null,
    tenant text not null,
    run_id text not null,
    thread text not null,
    status text not null,
    error text,
    body blob,
    primary key (tenant, run_id)
);

create index clew_delivery_due on clew_delivery (tenant, next_at) where next_at is not null;

create index clew_delivery_over on clew_delivery (tenant, created_at) where next_at is null;
