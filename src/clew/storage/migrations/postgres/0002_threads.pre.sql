-- What people know of a thread: whose it is, what it is called, when it was last used. It shares its key with the log,
-- and nothing else: a thread may be listed before it has a checkpoint, and have checkpoints without being listed.

create table clew_thread (
    created_at bigint not null,
    updated_at bigint not null,
    active_at bigint not null,
    last_message_at bigint,
    archived_at bigint,
    ttl_minutes integer,
    archived integer not null,
    tenant text collate "C" not null,
    thread text collate "C" not null,
    user_id text collate "C" not null,
    status text not null,
    ttl_strategy text,
    title text,
    title_key text,
    metadata jsonb,
    body bytea,
    primary key (tenant, thread)
);

create index clew_thread_mine on clew_thread (tenant, user_id, archived, active_at, thread);

create index clew_thread_everyone on clew_thread (tenant, archived, active_at, thread);

create index clew_thread_metadata on clew_thread using gin (metadata jsonb_path_ops);
