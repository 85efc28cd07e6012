-- Crons: requests for runs that are made again and again, at the times that a schedule gives. `next_at` is null where there
-- is none any more, or not for now.

create table clew_cron (
    created_at bigint not null,
    updated_at bigint not null,
    next_at bigint,
    end_time bigint,
    enabled integer not null,
    tenant text collate "C" not null,
    cron_id text collate "C" not null,
    user_id text collate "C" not null,
    thread text collate "C",
    assistant_id text collate "C" not null,
    schedule text collate "C" not null,
    timezone text collate "C",
    on_run_completed text collate "C",
    error text,
    body bytea not null,
    primary key (tenant, cron_id)
);

create index clew_cron_due on clew_cron (tenant, next_at) where next_at is not null;

create index clew_cron_mine on clew_cron (tenant, user_id, created_at);

create index clew_cron_thread on clew_cron (tenant, thread) where thread is not null;

alter table clew_cron alter column body set storage external;
