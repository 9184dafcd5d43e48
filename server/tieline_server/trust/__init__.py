"""The agency's CAs, leaves, peers and directory."""
