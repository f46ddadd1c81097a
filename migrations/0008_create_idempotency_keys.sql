-- depends: 0007_create_test_logs

CREATE TABLE idempotency_keys (
    caller_id UUID NOT NULL,
    key VARCHAR(200) NOT NULL,
    fingerprint BYTEA NOT NULL,
    status SMALLINT,
    body BYTEA,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    PRIMARY KEY (caller_id, key)
);

CREATE INDEX idx_idempotency_keys_created ON idempotency_keys(created_at);
