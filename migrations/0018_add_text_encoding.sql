-- depends: 0016_bump_locked_test_cases

-- The encoding of a text artifact. NULL for binary files, and for the artifacts of older servers, whose text is UTF-8.
-- NOT VALID: checks new rows, without reading the whole table under a lock that stops every upload.
ALTER TABLE test_artifacts ADD COLUMN text_encoding VARCHAR(10);
ALTER TABLE test_artifacts ADD CONSTRAINT test_artifacts_text_encoding_check
    CHECK (text_encoding IN ('utf-8', 'utf-16le', 'utf-16be', 'unknown')) NOT VALID;
