"""Backup and restore of a whole node: one encrypted file, checked by restoring it."""
