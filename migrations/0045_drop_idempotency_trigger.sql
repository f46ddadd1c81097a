-- depends: 0044_create_idempotency_replies

-- Only older servers insert a key before they run its request.
DROP TRIGGER find_idempotency_reply ON idempotency_keys;
DROP FUNCTION find_idempotency_reply;
