ALTER TABLE test_case_results DROP COLUMN error_fingerprint;
