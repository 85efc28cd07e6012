"""The list of attacks and what tests each of them; every row names tests that exist.

An attack that is tried elsewhere already is listed here, and not tried twice. What belongs to the HTTP service is
tested with the service: redirects that carry credentials, webhooks to addresses inside, streams of other tenants.
"""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

ROWS: dict[str, tuple[str, ...]] = {
    "GHSA-wwqv-p2pp-99h5: lone surrogates lead to a mode that revives objects": (
        "security/test_user_data.py::test_values_that_look_like_something_are_what_they_are",
        "security/test_stored_bytes.py::test_record_that_looks_like_a_call_is_a_dict",
        "serde/test_security.py::test_user_dict_that_looks_like_a_constructor_stays_a_dict",
    ),
    "GHSA-g48c-2wqr-h844: extension types that import and call": (
        "security/test_stored_bytes.py::test_hostile_value_in_a_state_is_refused_when_it_is_read",
        "security/test_stored_bytes.py::test_hostile_value_in_a_write_or_in_metadata_is_refused_when_it_is_read",
        "security/test_stored_bytes.py::test_hostile_value_in_a_store_is_refused_and_other_items_are_read",
        "serde/test_security.py::test_named_type_is_never_imported_or_called",
        "serde/test_security.py::test_extension_codes_of_other_writers_are_refused",
        "serde/test_security.py::test_reading_an_unknown_type_imports_nothing",
        "serde/test_security.py::test_constructor_is_not_run_when_reading",
    ),
    "GHSA-mhr3-j7m5-c7c9: pickle in a cache": (
        "security/test_stored_bytes.py::test_hostile_value_in_a_cache_counts_as_not_cached",
        "security/test_stored_bytes.py::test_tag_of_another_serializer_in_a_cache_counts_as_not_cached",
        "security/test_source.py::test_nothing_imports_what_runs_code_when_it_reads",
        "serde/test_serializer_names.py::test_unsafe_settings_are_refused",
        "serde/test_serializer_names.py::test_bytes_of_other_serializers_are_refused",
    ),
    "a default serializer that unpickles": (
        "security/test_source.py::test_nothing_imports_what_runs_code_when_it_reads",
        "security/test_source.py::test_only_named_places_run_or_import_what_a_text_says",
    ),
    "GHSA-9rwj-6rc7-p77c: a metadata filter's key in the text of a statement": (
        "security/test_names.py::test_a_filter_is_a_dict_whose_keys_and_values_are_only_data",
        "security/test_source.py::test_statements_are_not_built_from_texts",
        "security/test_source.py::test_named_queries_bind_everything",
    ),
    "CVE-2025-8709, CVE-2025-64104, GHSA-5mx2-w598-339m: operators in a store's filter": (
        "store/test_filters.py::test_malformed_filter_is_refused_before_anything_is_read",
        "security/test_names.py::test_operators_in_a_saver_s_filter_are_values",
    ),
    "GHSA-47pj-3jcm-6whg: a namespace's prefix finds its sibling, wildcards": (
        "store/test_namespaces.py::test_search_finds_a_namespace_and_what_lies_under_it_and_no_sibling",
        "store/test_namespaces.py::test_characters_of_pattern_languages_stand_for_themselves",
    ),
    "CVE-2025-68664: a user's dict with the key lc": (
        "security/test_user_data.py::test_values_that_look_like_something_are_what_they_are",
        "security/test_user_data.py::test_items_of_a_store_that_look_like_something_are_what_they_are",
        "security/test_user_data.py::test_cached_values_that_look_like_something_are_what_they_are",
        "security/test_user_data.py::test_metadata_that_looks_like_something_is_what_it_is",
    ),
    "a plain record where a key is set, ciphertext moved to another place": (
        "encryption/test_at_rest.py::test_one_row_that_is_not_encrypted_is_refused",
        "encryption/test_tampering.py::test_a_change_is_noticed_by_readers_and_by_the_doctor",
        "encryption/test_tampering.py::test_a_thread_of_another_tenant_does_not_authenticate",
    ),
    "retention without bounds": ("retention/test_policies.py::",),
    "a limit given as text": (
        "security/test_names.py::test_a_limit_is_a_number",
        "security/test_names.py::test_a_limit_may_be_any_number",
        "store/test_filters.py::test_limit_and_offset_must_be_counts",
    ),
    "metacharacters of JSON paths, Unicode in keys": (
        "security/test_names.py::test_a_filter_is_a_dict_whose_keys_and_values_are_only_data",
        "security/test_names.py::test_names_are_refused_or_are_only_data",
    ),
    "thread ids: NUL, slashes, dots, 1 MB, case, Unicode forms": (
        "bad_input/test_threads.py::test_refused_thread_ids",
        "bad_input/test_threads.py::test_strange_ids_are_accepted_and_distinct",
        "graph/test_tenants.py::test_bad_tenant_is_refused_before_anything_runs",
        "graph/test_tenants.py::test_every_text_is_a_tenant_of_its_own",
    ),
    '("a.b", "c") and ("a", "b.c")': (
        "store/test_namespaces.py::test_labels_are_never_joined",
        "store/test_namespaces.py::test_bad_namespace_is_refused_by_put_and_by_batch",
        "cache/test_cache.py::test_odd_namespaces_and_keys_never_meet",
    ),
    "a checkpoint id of another thread in one config": (
        "security/test_names.py::test_checkpoint_of_another_thread_in_one_config",
        "bad_input/test_threads.py::test_checkpoint_of_another_thread",
    ),
    "bombs: depth, lengths of 4 GB, compressed zeros": (
        "security/test_stored_bytes.py::test_hostile_record_is_refused_when_it_is_read",
        "security/test_stored_bytes.py::test_hostile_record_of_a_store_is_refused_when_it_is_read",
        "serde/test_security.py::test_depth_bomb_in_extensions_does_not_overflow_the_stack",
        "serde/test_security.py::test_length_headers_allocate_nothing",
        "serde/test_compress.py::test_bomb_is_refused_by_its_declared_size",
    ),
    "row-level security over a pooled connection that keeps the tenant before": (
        "security/test_row_security.py::test_a_pooled_connection_does_not_keep_the_tenant_before",
        "security/test_row_security.py::test_a_saver_that_names_no_tenant_to_the_server_finds_nothing",
        "store/test_postgres.py::test_server_itself_keeps_tenants_apart_where_it_is_told_to",
    ),
    "an answer to another tenant's question, another tenant's anything": (
        "graph/test_tenants.py::test_a_question_of_another_tenant_cannot_be_answered",
        "graph/test_tenants.py::test_a_checkpoint_of_another_tenant_does_not_exist",
        "graph/test_tenants.py::test_maintenance_reaches_one_tenant_alone",
        "graph/test_tenants.py::test_cached_results_are_a_tenant_s_own",
    ),
}


def test_every_attack_is_tried() -> None:
    for attack, places in ROWS.items():
        for place in places:
            path, _, name = place.partition("::")
            tests = re.findall(r"^def (test_\w+)\(", (ROOT / "tests" / path).read_text(), re.MULTILINE)

            assert name in tests if name else tests, (attack, place)
