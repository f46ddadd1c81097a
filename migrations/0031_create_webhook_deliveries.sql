-- depends: 0029_index_client_ref

-- The outbox of webhooks: one row for each event and target, inserted in the transaction of the event. A row that has
-- due_at waits for its next attempt. Otherwise it was delivered, or given up. No foreign keys: an event that happened is
-- sent although its run has been deleted since.
CREATE TABLE webhook_deliveries (
    id UUID PRIMARY KEY,  -- ascends in time; the same in all attempts
    webhook VARCHAR(300) NOT NULL,  -- its name in the configuration
    event VARCHAR(50) NOT NULL,
    project_id UUID,  -- NULL: about the whole server
    suite_run_id UUID,
    last_result_id UUID,  -- of tests.newly_failing: the newest result of the run that was looked at
    body TEXT NOT NULL,  -- as it is sent
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    due_at TIMESTAMP WITH TIME ZONE DEFAULT CURRENT_TIMESTAMP,
    attempts INT NOT NULL DEFAULT 0,
    -- Of the last attempt: when, the status of the reply, and its text or what went wrong.
    attempted_at TIMESTAMP WITH TIME ZONE,
    status INT,
    answer TEXT,
    delivered_at TIMESTAMP WITH TIME ZONE
);

CREATE INDEX idx_webhook_deliveries_due ON webhook_deliveries (webhook, due_at, id) WHERE due_at IS NOT NULL;
CREATE INDEX idx_webhook_deliveries_webhook ON webhook_deliveries (webhook, id);
CREATE INDEX idx_webhook_deliveries_run ON webhook_deliveries (suite_run_id) WHERE last_result_id IS NOT NULL;
