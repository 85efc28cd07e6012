-- What retention knows of a thread: the time of its last use when all but its newest checkpoints went; and how far a
-- duty has come, where it comes by again and again.

alter table clew_thread add column swept_at bigint;

alter table clew_duty add column mark bigint;

create index clew_thread_ttl on clew_thread (tenant, active_at) where ttl_minutes is not null;

create index clew_run_over on clew_run (tenant, ended_at) where ended_at is not null;

create index clew_run_own on clew_run (tenant, ended_at) where is_ephemeral = 1;
