-- depends: 0016_bump_locked_test_cases

-- Their rules stand in sql/ now. Applied by `reportd migrate --finish` once no server of an older version runs, which
-- still calls them.
DROP FUNCTION illustrated_steps;
DROP FUNCTION instant;
DROP FUNCTION insert_artifacts;
DROP FUNCTION lock_for_artifacts;
DROP FUNCTION insert_steps;
DROP FUNCTION link_screenshots;
DROP FUNCTION lock_test_case;
