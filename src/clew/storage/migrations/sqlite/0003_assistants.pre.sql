-- Assistants: graphs with settings, each a line of versions of its owner's. `version` is the one in use, `top` the newest.
-- What a version says is one body, so that it is kept under a key where everything is.

create table clew_assistant (
    tenant text not null,
    user_id text not null,
    assistant text not null,
    version integer not null,
    top integer not null,
    created_at integer not null,
    updated_at integer not null,
    primary key (tenant, user_id, assistant)
);

create table clew_assistant_version (
    tenant text not null,
    user_id text not null,
    assistant text not null,
    version integer not null,
    created_at integer not null,
    body blob not null,
    primary key (tenant, user_id, assistant, version)
);
