"""Play the taskforce and print what came of it.

python scripts/taskforce [--small] [--build DIR]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT)]

from tieline_server.matching.warm import warm  # noqa: E402

from taskforce.cast import FULL, SMALL  # noqa: E402
from taskforce.replay import Replay, ReplayFailed  # noqa: E402
from tests.e2e.federation import Federation  # noqa: E402


def main() -> None:
    """Play it; leave the folder DIR with report.json."""
    parser = argparse.ArgumentParser(description="Replay the taskforce of November 2020.")
    parser.add_argument("--small", action="store_true", help="4 agencies, 12 series.")
    parser.add_argument("--build", type=Path, default=ROOT / "build" / "taskforce", metavar="DIR")
    asked = parser.parse_args()
    console = Console(highlight=False, width=100, record=True)
    build: Path = asked.build
    shutil.rmtree(build, ignore_errors=True)
    (build / "nodes").mkdir(parents=True)
    os.environ.pop("TIELINE_PROFILE", None)
    warm(ROOT / "build" / "kernels")
    began = time.monotonic()
    nodes = Federation(build / "nodes", "taskforce-replay")
    replay = Replay(nodes, SMALL if asked.small else FULL, build, console)
    try:
        report = replay.run()
    except (ReplayFailed, AssertionError) as error:
        sys.exit(f"the replay failed: {error}; homes and logs are in {build / 'nodes'}")
    finally:
        nodes.close()
    (build / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    table = Table("figure", "read back")
    for name, value in report.items():
        table.add_row(name.replace("_", " "), f"{value:,}")
    console.print(table)
    console.print(f"{time.monotonic() - began:.0f} s in all")
    console.save_text(str(build / "story.txt"))
    print(build / "report.json")


if __name__ == "__main__":
    main()
