-- depends: 0028_add_client_ref

-- Alone, because it reads the whole table, see 0026. It is empty then, and has only the results of bundles later.
CREATE UNIQUE INDEX unique_client_ref ON test_case_results(suite_run_id, client_ref) WHERE client_ref IS NOT NULL;
