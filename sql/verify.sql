-- name: test_step_results
SELECT count(*) FROM test_step_results WHERE test_case_result_id::text = ANY($1::text[])

-- name: test_artifacts
SELECT count(*) FROM test_artifacts WHERE test_case_result_id::text = ANY($1::text[])
