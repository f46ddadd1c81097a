-- depends: 0031_create_webhook_deliveries

-- What all processes that send webhooks share. `worker`: which of them delivers now, and until when; when it dies,
-- another one takes over. `disk.low`: the disk is low, and that was sent.
CREATE TABLE webhook_states (
    name VARCHAR(50) PRIMARY KEY,
    holder UUID,
    until TIMESTAMP WITH TIME ZONE
);
