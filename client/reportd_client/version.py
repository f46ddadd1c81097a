"""The version, which is that of the server in the same checkout."""

VERSION = "0.2.0"
