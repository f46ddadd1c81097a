-- depends: 0032_create_webhook_states

-- Of a token that CI jobs get in exchange for their ID tokens: SHA-256 of issuer, subject and project. The secrets that
-- jobs got are in former_secrets; the secret of the token itself is nobody's.
ALTER TABLE tokens ADD COLUMN subject_hash BYTEA;

-- A revoked one may be made again, by a rule that still is there.
CREATE UNIQUE INDEX unique_token_subject ON tokens(subject_hash) WHERE revoked_at IS NULL AND subject_hash IS NOT NULL;
