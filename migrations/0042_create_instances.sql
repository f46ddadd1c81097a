-- depends: 0041_create_expected_artifacts

-- Each server process that runs, also on other hosts. Its staging folder `.staging/<id>` may be removed when seen_at is
-- an hour old. boot_id and device: the running kernel and the mounted file system, within which locks are seen.
CREATE TABLE instances (
    id UUID PRIMARY KEY,
    host TEXT NOT NULL,
    boot_id TEXT NOT NULL,
    device BIGINT NOT NULL,
    started_at TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP,
    seen_at TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP
);
