-- Crons: requests for runs that are made again and again, at the times that a schedule gives. `next_at` is null where there
-- is none any more, or not for now.

create table clew_cron (
    created_at integer not null,
    updated_at integer not null,
    next_at integer,
    end_time integer,
    enabled integer not null,
    tenant text not null,
    cron_id text not null,
    user_id text not null,
    thread text,
    assistant_id text not null,
    schedule text not null,
    timezone text,
    on_run_completed text,
    error text,
    body blob not null,
    primary key (tenant, cron_id)
);

create index clew_cron_due on clew_cron (tenant, next_at) where next_at is not null;

create index clew_cron_mine on clew_cron (tenant, user_id, created_at);

create index clew_cron_thread on clew_cron (tenant, thread) where thread is not null;
