DROP TABLE expected_artifacts;
