-- depends: 0042_create_instances

-- When a server process last began the clean-up jobs that one process does for all.
CREATE TABLE sweeps (
    one BOOLEAN PRIMARY KEY DEFAULT TRUE CHECK (one),
    began_at TIMESTAMPTZ NOT NULL DEFAULT CURRENT_TIMESTAMP
);
