-- The log of threads. `line` is one namespace of one thread: a number in place of three texts, so that a row costs
-- few bytes. `tenant` leads every key.

create table clew_head (
    line integer primary key autoincrement,  -- never reused: a run on a deleted thread must not find another one
    tenant text not null,
    thread text not null,
    ns text not null,
    epoch integer not null,
    branch integer not null,
    seq integer not null,
    key_seq integer not null,
    top_branch integer not null,
    since integer not null,
    last_id blob,
    root_branch integer,
    root_seq integer,
    updated_at integer not null,
    unique (tenant, thread, ns)
);

create table clew_step (
    tenant text not null,
    line integer not null,
    branch integer not null,
    seq integer not null,
    key_seq integer not null,
    checkpoint_id blob not null,
    root_branch integer,
    root_seq integer,
    run_id blob,
    created_at integer not null,
    body blob not null,
    primary key (tenant, line, branch, seq)
);

create unique index clew_step_by_id on clew_step (tenant, line, checkpoint_id);

create table clew_fork (
    tenant text not null,
    line integer not null,
    branch integer not null,
    parent_branch integer not null,
    parent_seq integer not null,
    primary key (tenant, line, branch)
);

create table clew_pending (
    tenant text not null,
    line integer not null,
    branch integer not null,
    seq integer not null,
    task_id blob not null,
    epoch integer not null,
    body blob not null,
    primary key (tenant, line, branch, seq, task_id)
);

create table clew_spill (
    tenant text not null,
    thread text not null,
    hash blob not null,
    body blob not null,
    primary key (tenant, thread, hash)
);
