DROP FUNCTION insert_artifacts;
DROP FUNCTION lock_for_artifacts;
DROP FUNCTION insert_steps;
DROP FUNCTION link_screenshots;
DROP FUNCTION lock_test_case;
