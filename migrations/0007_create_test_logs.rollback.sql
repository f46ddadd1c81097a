DROP TABLE test_network_logs;
DROP TABLE test_console_logs;
