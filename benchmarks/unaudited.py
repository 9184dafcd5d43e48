"""A node that audits nothing: ``python -m benchmarks.unaudited HOME``.

For audit_cost.py alone, which measures what auditing costs by leaving it out. The product has no
such switch: here its classes are changed in this process before the node starts.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tieline_server.config import Home, numba_cache


def main() -> None:
    """Serve a home without entries, sketches and kept lists."""
    home = Path(sys.argv[1])
    numba_cache(Home(home))
    from tieline_server import main as node
    from tieline_server.domain.minhash import Sketcher
    from tieline_server.services import asked_lists
    from tieline_server.storage.audit import Audit
    from tieline_server.storage.sketches import Sketches

    for owner, name in (
        (Audit, "append"),
        (Sketcher, "add"),
        (Sketches, "put"),
        (asked_lists, "write"),
    ):
        setattr(owner, name, lambda *_: None)
    asked_lists.in_entry = lambda *_: ""
    node.serve(home)


if __name__ == "__main__":
    main()
