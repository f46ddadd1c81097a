"""Readers of report files: each turns a file into Result objects, and opens nothing that its rules do not allow."""
