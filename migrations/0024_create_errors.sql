-- depends: 0023_index_commits

-- One row for each error of a project: for all failures whose text is the same after stable() (server/compare/). No
-- counters: parallel writers would wait for each other. Search looks in `words`. Signs become spaces, because the
-- parser would take `pay.spec.ts` for the name of a host, and keep it whole.
CREATE TABLE errors (
    project_id UUID NOT NULL REFERENCES projects(id) ON DELETE CASCADE,
    fingerprint BYTEA NOT NULL,
    error_type VARCHAR(255),
    stable_text TEXT NOT NULL,
    sample TEXT NOT NULL,
    words TSVECTOR NOT NULL GENERATED ALWAYS AS (to_tsvector('simple', regexp_replace(
        coalesce(error_type, '') || ' ' || stable_text || ' ' || sample, '[^[:alnum:]]+', ' ', 'g'))) STORED,
    PRIMARY KEY (project_id, fingerprint)
);
CREATE INDEX idx_errors_words ON errors USING GIN (words);
