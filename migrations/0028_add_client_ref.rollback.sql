ALTER TABLE test_case_results DROP COLUMN client_ref;
