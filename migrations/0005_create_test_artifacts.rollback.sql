ALTER TABLE test_step_results DROP CONSTRAINT test_step_results_screenshot_artifact_id_fkey;
DROP TABLE removed_files;
DROP TABLE test_artifacts;
