"""Faults on real node processes: what is acknowledged is applied exactly once, whatever happens."""
