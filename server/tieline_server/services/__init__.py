"""The node's jobs: each takes domain decisions and carries them out through the ports."""
