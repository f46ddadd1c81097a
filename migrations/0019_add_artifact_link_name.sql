-- depends: 0018_add_text_encoding

-- The name that `link` in sql/steps.sql compares, where it is not the file name itself: in Unicode form C, and without
-- percent-encoding. NULL in the usual case, and in rows of older servers. One table for each migration: altering two in
-- one transaction deadlocks with requests that use both.
ALTER TABLE test_artifacts ADD COLUMN link_name TEXT;
