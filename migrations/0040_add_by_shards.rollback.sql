ALTER TABLE suite_runs DROP COLUMN by_shards;
