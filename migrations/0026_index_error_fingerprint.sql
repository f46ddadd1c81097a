-- depends: 0025_add_error_fingerprint

-- The results of an error, in the order of time: first, last, count. Alone, because it reads the whole table, about a
-- second for each million results: writes wait meanwhile, and in the transaction of ALTER TABLE reads would, too.
CREATE INDEX idx_test_case_results_error ON test_case_results(project_id, error_fingerprint, id)
    WHERE error_fingerprint IS NOT NULL;
