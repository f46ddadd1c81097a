"""Sends a spool: reads its records, groups tests, keeps a few requests under way, and writes down what has arrived."""
