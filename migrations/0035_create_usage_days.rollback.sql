DROP TABLE storage_checks;
DROP TABLE counted_days;
DROP TABLE usage_days;
