-- Assistants: graphs with settings, each a line of versions of its owner's. `version` is the one in use, `top` the newest.
-- What a version says is one body, so that it is kept under a key where everything is.

create table clew_assistant (
    created_at bigint not null,
    updated_at bigint not null,
    version integer not null,
    top integer not null,
    tenant text collate "C" not null,
    user_id text collate "C" not null,
    assistant text collate "C" not null,
    primary key (tenant, user_id, assistant)
);

create table clew_assistant_version (
    created_at bigint not null,
    version integer not null,
    tenant text collate "C" not null,
    user_id text collate "C" not null,
    assistant text collate "C" not null,
    body bytea not null,
    primary key (tenant, user_id, assistant, version)
);
