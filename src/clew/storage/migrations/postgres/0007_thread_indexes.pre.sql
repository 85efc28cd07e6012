-- An index for each order that threads are listed in, so that a page of many is read and no more; and the titles, so that
-- what few of them hold is found without reading the threads.

create index clew_thread_mine_status on clew_thread (tenant, user_id, archived, status collate "C", active_at, thread);

create index clew_thread_mine_created on clew_thread (tenant, user_id, archived, created_at, thread);

create index clew_thread_mine_updated on clew_thread (tenant, user_id, archived, updated_at, thread);

create index clew_thread_mine_id on clew_thread (tenant, user_id, archived, thread);

create index clew_thread_everyone_status on clew_thread (tenant, archived, status collate "C", active_at, thread);

create index clew_thread_everyone_created on clew_thread (tenant, archived, created_at, thread);

create index clew_thread_everyone_updated on clew_thread (tenant, archived, updated_at, thread);

create index clew_thread_everyone_id on clew_thread (tenant, archived, thread);

create index clew_thread_title on clew_thread (tenant, user_id, thread, title_key) where octet_length(title_key) <= 300;

create index clew_thread_title_long on clew_thread (tenant, user_id) where octet_length(title_key) > 300;
