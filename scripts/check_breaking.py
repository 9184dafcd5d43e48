"""Hold the wire against its last released form: old numbers stay, nothing changes its meaning.

``tests/compat/wire-v1.0.binpb`` is that form (`buf build proto -o ...` at the release).
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def main() -> None:
    """Run ``buf breaking`` against the newest released image."""
    released = sorted((ROOT / "tests" / "compat").glob("wire-v*.binpb"))
    if not released:
        sys.exit("tests/compat holds no released form of the wire")
    buf = Path(sys.executable).with_name("buf")
    done = subprocess.run(
        [str(buf), "breaking", "proto", "--against", str(released[-1])], cwd=ROOT, check=False
    )
    if done.returncode:
        sys.exit("the wire breaks its last release; add fields, never change or remove them")


if __name__ == "__main__":
    main()
