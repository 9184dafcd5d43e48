"""Stands here so that pytest puts the repository's root on the path: `from tests.trust...`."""
