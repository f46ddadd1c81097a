DROP TABLE suite_run_shards;
