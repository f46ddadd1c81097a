DROP TRIGGER find_idempotency_reply ON idempotency_keys;
DROP FUNCTION find_idempotency_reply;
DROP FUNCTION drop_idempotency_days;
DROP FUNCTION make_idempotency_days;
INSERT INTO idempotency_keys (caller_id, key, fingerprint, status, body, created_at)
SELECT caller_id, key, fingerprint, status, body, created_at FROM idempotency_replies
ON CONFLICT (caller_id, key) DO NOTHING;
DROP TABLE idempotency_replies;
