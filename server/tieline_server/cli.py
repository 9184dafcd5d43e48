"""What the server adds to the one command, by entry point (pyproject.toml).

Each is imported when it is asked for, so that `tieline node serve` does not wait for the imports of
an authority.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PLACES = {
    "federation_app": ("tieline_server.federation_cli", "federation_app"),
    "look_at_home": ("tieline_server.home_doctor", "look_at_home"),
    "node_app": ("tieline_server.node_cli", "app"),
    "policy_app": ("tieline_server.policy.cli", "policy_app"),
}


def __getattr__(name: str) -> Any:
    """Return one of them (PEP 562)."""
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _PLACES[name]
    return getattr(import_module(module), attribute)
