"""The commands of `reportd-send`, one module each, and what they share."""
