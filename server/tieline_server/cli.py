"""What the server adds to the one command, by entry point (pyproject.toml)."""

from __future__ import annotations

from tieline_server.federation_cli import federation_app
from tieline_server.home_doctor import look_at_home
from tieline_server.node_cli import app as node_app
from tieline_server.policy.cli import policy_app

__all__ = ["federation_app", "look_at_home", "node_app", "policy_app"]
