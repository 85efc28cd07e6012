-- The log of threads. `line` is one namespace of one thread: a number in place of three texts, drawn by the client, so
-- that a row costs few bytes and no sequence is shared. `tenant` leads every key. Bodies are compressed by the client.

create table clew_head (
    line bigint not null,
    epoch bigint not null,
    since bigint not null,
    updated_at bigint not null,
    branch integer not null,
    seq integer not null,
    key_seq integer not null,
    top_branch integer not null,
    root_branch integer,
    root_seq integer,
    tenant text collate "C" not null,
    thread text collate "C" not null,
    ns text collate "C" not null,
    last_id bytea,
    owner bytea,
    primary key (tenant, line),
    unique (tenant, thread, ns)
) with (fillfactor = 50);

create table clew_step (
    line bigint not null,
    created_at bigint not null,
    branch integer not null,
    seq integer not null,
    key_seq integer not null,
    root_branch integer,
    root_seq integer,
    tenant text collate "C" not null,
    checkpoint_id bytea not null,
    run_id bytea,
    body bytea not null,
    primary key (tenant, line, branch, seq)
);

alter table clew_step alter column body set storage external;

create unique index clew_step_by_id on clew_step (tenant, line, checkpoint_id);

create table clew_fork (
    line bigint not null,
    branch integer not null,
    parent_branch integer not null,
    parent_seq integer not null,
    tenant text collate "C" not null,
    primary key (tenant, line, branch)
);

create table clew_pending (
    line bigint not null,
    epoch bigint not null,
    branch integer not null,
    seq integer not null,
    tenant text collate "C" not null,
    task_id bytea not null,
    body bytea not null,
    primary key (tenant, line, branch, seq, task_id)
);

alter table clew_pending alter column body set storage external;

create table clew_spill (
    tenant text collate "C" not null,
    thread text collate "C" not null,
    hash bytea not null,
    body bytea not null,
    primary key (tenant, thread, hash)
);

alter table clew_spill alter column body set storage external;
