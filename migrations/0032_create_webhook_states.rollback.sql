DROP TABLE webhook_states;
