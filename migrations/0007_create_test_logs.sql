-- depends: 0006_create_test_checkpoints

CREATE TABLE test_console_logs (
    seq BIGINT GENERATED ALWAYS AS IDENTITY,
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    test_case_result_id UUID NOT NULL REFERENCES test_case_results(id) ON DELETE CASCADE,
    client_sequence BIGINT,
    level VARCHAR(20) NOT NULL,
    message TEXT NOT NULL,
    source_url TEXT,
    line_number INTEGER,
    column_number INTEGER,
    step_number INTEGER,
    iteration_number INTEGER NOT NULL DEFAULT 1,
    logged_at TIMESTAMP WITH TIME ZONE,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    -- The client's own count: an append that is sent again adds nothing.
    CONSTRAINT unique_console_log_sequence UNIQUE (test_case_result_id, client_sequence),
    CONSTRAINT test_console_logs_level_check CHECK (level IN ('debug', 'info', 'warning', 'error'))
);

CREATE INDEX idx_console_logs_test_case ON test_console_logs(test_case_result_id, seq);

CREATE TABLE test_network_logs (
    seq BIGINT GENERATED ALWAYS AS IDENTITY,
    id UUID PRIMARY KEY DEFAULT gen_random_uuid(),
    test_case_result_id UUID NOT NULL REFERENCES test_case_results(id) ON DELETE CASCADE,
    client_sequence BIGINT,
    method VARCHAR(20) NOT NULL,
    url TEXT NOT NULL,
    status_code INTEGER,
    resource_type VARCHAR(50),
    request_headers JSONB NOT NULL DEFAULT '{}',
    response_headers JSONB NOT NULL DEFAULT '{}',
    request_size BIGINT,
    response_size BIGINT,
    duration_ms INTEGER,
    error_text TEXT,
    step_number INTEGER,
    iteration_number INTEGER NOT NULL DEFAULT 1,
    started_at TIMESTAMP WITH TIME ZONE,
    created_at TIMESTAMP WITH TIME ZONE NOT NULL DEFAULT CURRENT_TIMESTAMP,
    CONSTRAINT unique_network_log_sequence UNIQUE (test_case_result_id, client_sequence)
);

CREATE INDEX idx_network_logs_test_case ON test_network_logs(test_case_result_id, seq);
