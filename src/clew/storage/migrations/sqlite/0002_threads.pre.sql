-- What people know of a thread: whose it is, what it is called, when it was last used. It shares its key with the log,
-- and nothing else: a thread may be listed before it has a checkpoint, and have checkpoints without being listed.

create table clew_thread (
    tenant text not null,
    thread text not null,
    user_id text not null,
    status text not null,
    archived integer not null,
    created_at integer not null,
    updated_at integer not null,
    active_at integer not null,  -- of the last message, or of its creation: the order of lists
    last_message_at integer,
    archived_at integer,
    ttl_minutes integer,
    ttl_strategy text,
    title text,
    title_key text,
    metadata text,
    body blob,  -- title and metadata, where everything of the user's is kept under a key
    primary key (tenant, thread)
);

create index clew_thread_mine on clew_thread (tenant, user_id, archived, active_at, thread);

create index clew_thread_everyone on clew_thread (tenant, archived, active_at, thread);
