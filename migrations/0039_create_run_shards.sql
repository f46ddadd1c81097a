-- depends: 0038_create_selector_uses

-- What the shards of a run say about themselves: how many there are, how many tests each has, and how each ended. A run
-- whose client sends no shards has no rows. Checked under the lock of the run: all rows of a run have the same total.
CREATE TABLE suite_run_shards (
    suite_run_id UUID NOT NULL REFERENCES suite_runs(id) ON DELETE CASCADE,
    shard_index INTEGER NOT NULL,
    total INTEGER NOT NULL,
    tests_expected INTEGER,
    status VARCHAR(20) NOT NULL,
    started_at TIMESTAMP WITH TIME ZONE,
    finished_at TIMESTAMP WITH TIME ZONE,
    errors TEXT[] NOT NULL DEFAULT '{}',
    PRIMARY KEY (suite_run_id, shard_index),
    CONSTRAINT suite_run_shards_index_check CHECK (shard_index BETWEEN 1 AND total),
    CONSTRAINT suite_run_shards_status_check CHECK (status IN ('Passed', 'Failed', 'Running'))
);
