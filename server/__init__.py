"""reportd: a self-hosted test-report server."""

__version__ = "0.1.0"
