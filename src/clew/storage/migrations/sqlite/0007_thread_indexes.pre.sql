-- An index for each order that threads are listed in, so that a page of many is read and no more; and the titles, so that
-- what few of them hold is found without reading the threads.

create index clew_thread_mine_status on clew_thread (tenant, user_id, archived, status, active_at, thread);

create index clew_thread_mine_created on clew_thread (tenant, user_id, archived, created_at, thread);

create index clew_thread_mine_updated on clew_thread (tenant, user_id, archived, updated_at, thread);

create index clew_thread_mine_id on clew_thread (tenant, user_id, archived, thread);

create index clew_thread_everyone_status on clew_thread (tenant, archived, status, active_at, thread);

create index clew_thread_everyone_created on clew_thread (tenant, archived, created_at, thread);

create index clew_thread_everyone_updated on clew_thread (tenant, archived, updated_at, thread);

create index clew_thread_everyone_id on clew_thread (tenant, archived, thread);

create index clew_thread_title on clew_thread (tenant, user_id, title_key, thread);

-- Which threads have a plain value in their metadata: PostgreSQL has an index for that, SQLite a table that its triggers
-- keep. Long values share a label with others that begin alike.

create table clew_thread_label (
    tenant text not null,
    label text not null,
    thread text not null,
    primary key (tenant, label, thread)
) without rowid;

create trigger clew_thread_added after insert on clew_thread begin
    insert or ignore into clew_thread_label
    select new.tenant, substr(key || ' ' || case when type in ('integer', 'real') then cast(value as real) else type || coalesce(value, '') end, 1, 120), new.thread
      from json_each(new.metadata) where type not in ('object', 'array'); end;

create trigger clew_thread_changed after update of metadata on clew_thread when old.metadata is not new.metadata begin
    delete from clew_thread_label
     where tenant = old.tenant and thread = old.thread
       and label in (select substr(key || ' ' || case when type in ('integer', 'real') then cast(value as real) else type || coalesce(value, '') end, 1, 120) from json_each(old.metadata) where type not in ('object', 'array')); insert or ignore
      into clew_thread_label
    select new.tenant, substr(key || ' ' || case when type in ('integer', 'real') then cast(value as real) else type || coalesce(value, '') end, 1, 120), new.thread
      from json_each(new.metadata) where type not in ('object', 'array'); end;

create trigger clew_thread_removed after delete on clew_thread begin
    delete from clew_thread_label
     where tenant = old.tenant and thread = old.thread
       and label in (select substr(key || ' ' || case when type in ('integer', 'real') then cast(value as real) else type || coalesce(value, '') end, 1, 120) from json_each(old.metadata) where type not in ('object', 'array')); end;

insert or ignore into clew_thread_label
select tenant, substr(key || ' ' || case when type in ('integer', 'real') then cast(value as real) else type || coalesce(value, '') end, 1, 120), thread
  from clew_thread, json_each(clew_thread.metadata)
 where type not in ('object', 'array');
