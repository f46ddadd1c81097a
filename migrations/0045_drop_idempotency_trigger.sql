-- depends: 0044_create_idempotency_replies

-- Only older servers insert a key before they run its request.
SET LOCAL lock_timeout = '2s';  -- requests queue behind a lock that waits, as for a backup: see migrate.apply
DROP TRIGGER find_idempotency_reply ON idempotency_keys;
DROP FUNCTION find_idempotency_reply;
