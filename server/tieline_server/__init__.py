"""The node: what runs at one agency."""
