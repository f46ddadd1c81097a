-- depends: 0027_add_parent_step

-- The client's own id of a result that came in a bundle, unique in its run: a bundle that is sent again finds what it has
-- stored. NULL: sent by another call, or by an older server.
ALTER TABLE test_case_results ADD COLUMN client_ref UUID;
