-- depends: 0019_add_artifact_link_name

-- screenshot_path and the name in it, as `link` in sql/steps.sql compares it; NULL where that is the base name itself.
-- When an older server changes the path, the name for the former path is ignored.
ALTER TABLE test_step_results ADD COLUMN link_name TEXT[];
