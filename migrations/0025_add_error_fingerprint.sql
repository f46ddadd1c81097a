-- depends: 0024_create_errors

-- The error of a failed result, in the table `errors`. NULL: it did not fail, nothing says why, or the row is from an
-- older server, until `reportd regroup`.
ALTER TABLE test_case_results ADD COLUMN error_fingerprint BYTEA;
