"""What ``main`` puts a node together with: parts, listeners, housekeeping, status, threads."""
