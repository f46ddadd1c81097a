-- Projects own everything; tokens say who calls, sessions let a browser show images.

CREATE TABLE projects (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    name VARCHAR(100) NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT unique_project_name UNIQUE (name)
);

INSERT INTO projects (name) VALUES ('default');

-- A token is 256 random bits: a plain SHA-256 is enough, nothing can be guessed from it.
CREATE TABLE tokens (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    name VARCHAR(100) NOT NULL,
    token_hash BYTEA NOT NULL,
    project_id UUID REFERENCES projects(id) ON DELETE CASCADE,
    collection_shape VARCHAR(10),
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    last_used_at TIMESTAMP WITH TIME ZONE,
    expires_at TIMESTAMP WITH TIME ZONE,
    revoked_at TIMESTAMP WITH TIME ZONE,
    CONSTRAINT unique_token_hash UNIQUE (token_hash),
    CONSTRAINT tokens_collection_shape_check CHECK (collection_shape IN ('object', 'array'))
);

-- Names are told apart among the living, so that a revoked token's name can be given again.
CREATE UNIQUE INDEX unique_token_name ON tokens(name) WHERE revoked_at IS NULL;

CREATE TABLE sessions (
    session_hash BYTEA PRIMARY KEY,
    token_id UUID NOT NULL REFERENCES tokens(id) ON DELETE CASCADE,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    expires_at TIMESTAMP WITH TIME ZONE NOT NULL
);

CREATE INDEX idx_sessions_expires ON sessions(expires_at);
CREATE INDEX idx_sessions_token ON sessions(token_id);
