"""reportd: a self-hosted test-report server."""

__version__ = "0.2.0"
