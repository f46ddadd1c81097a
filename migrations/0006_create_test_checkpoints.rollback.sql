DROP TABLE test_checkpoints;
