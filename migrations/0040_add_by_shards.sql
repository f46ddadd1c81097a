-- depends: 0039_create_run_shards

-- Whether the status and the end of a run are those of its shards: the next shard may change them. False: a client set
-- them, and no shard does.
ALTER TABLE suite_runs ADD COLUMN by_shards BOOLEAN NOT NULL DEFAULT FALSE;
