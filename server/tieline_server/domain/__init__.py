"""Decisions without I/O; the time is an argument."""
