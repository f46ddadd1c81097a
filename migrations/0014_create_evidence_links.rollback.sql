DROP TABLE signing_keys;
DROP TABLE evidence_links;
