-- depends: 0026_index_error_fingerprint

-- The step that a step is inside of, in the same iteration. No foreign key: steps may be sent in several requests, the
-- inner ones first. NULL: at the top. Rows of older servers are.
ALTER TABLE test_step_results ADD COLUMN parent_step_number INTEGER;
