-- depends: 0011_create_storage_folder

-- What a token may do in its project. Those that are there could do everything, and go on so; a new one must say.
ALTER TABLE tokens ADD COLUMN role VARCHAR(10) NOT NULL DEFAULT 'admin'
    CONSTRAINT tokens_role_check CHECK (role IN ('viewer', 'uploader', 'admin'));
ALTER TABLE tokens ALTER COLUMN role DROP DEFAULT;

-- What a token's secret was before it was rotated, and until when that works. Rows stay: an old secret that turns up
-- in a file must not be taken for one that was never here.
CREATE TABLE former_secrets (
    secret_hash BYTEA PRIMARY KEY,
    token_id UUID NOT NULL REFERENCES tokens(id) ON DELETE CASCADE,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL
);

CREATE INDEX idx_former_secrets_token ON former_secrets(token_id);
