-- depends: 0033_add_token_subject

-- Of a person who signs in at a provider: SHA-256 of its address and the person's subject there. Such a person has no
-- password here; servers of the previous version refuse every password for it.
ALTER TABLE users ADD COLUMN subject_hash BYTEA;
ALTER TABLE users ALTER COLUMN password_hash DROP NOT NULL;
ALTER TABLE users ADD CONSTRAINT users_credential_check CHECK (num_nonnulls(password_hash, subject_hash) = 1);

CREATE UNIQUE INDEX unique_user_subject ON users(subject_hash);
