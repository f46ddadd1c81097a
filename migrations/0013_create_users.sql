-- depends: 0012_add_token_roles

-- People. A password is kept as argon2id's own text, which carries its salt and parameters.
CREATE TABLE users (
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    name VARCHAR(100) NOT NULL,
    password_hash TEXT NOT NULL,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    last_seen_at TIMESTAMP WITH TIME ZONE,
    disabled_at TIMESTAMP WITH TIME ZONE
);

CREATE UNIQUE INDEX unique_user_name ON users(lower(name));

-- What a person may do in a project; without a project, in every one. The larger of two holds.
CREATE TABLE user_roles (
    user_id UUID NOT NULL REFERENCES users(id) ON DELETE CASCADE,
    project_id UUID REFERENCES projects(id) ON DELETE CASCADE,
    role VARCHAR(10) NOT NULL,
    CONSTRAINT unique_user_role UNIQUE NULLS NOT DISTINCT (user_id, project_id),
    CONSTRAINT user_roles_role_check CHECK (role IN ('viewer', 'uploader', 'admin'))
);

CREATE INDEX idx_user_roles_project ON user_roles(project_id);

-- A session is a token's or a person's.
ALTER TABLE sessions ALTER COLUMN token_id DROP NOT NULL;
ALTER TABLE sessions ADD COLUMN user_id UUID REFERENCES users(id) ON DELETE CASCADE;
ALTER TABLE sessions ADD CONSTRAINT sessions_owner_check CHECK (num_nonnulls(token_id, user_id) = 1);
CREATE INDEX idx_sessions_user ON sessions(user_id);

-- Failed logins by account and by address, sessions by token, as buckets that leak: how full each was at a time. Keys
-- are hashes, because people type passwords into the field for the name.
CREATE TABLE login_buckets (
    key BYTEA PRIMARY KEY,
    level DOUBLE PRECISION NOT NULL,
    updated_at TIMESTAMP WITH TIME ZONE NOT NULL
);

CREATE INDEX idx_login_buckets_updated ON login_buckets(updated_at);
