DROP TABLE suite_runs;
