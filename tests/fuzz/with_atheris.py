"""The same decoders under libFuzzer's coverage guidance, by atheris (not among the requirements).

    .venv/bin/pip install atheris
    .venv/bin/python -m tests.fuzz.with_atheris "item chunks" -max_total_time=300

Options behind the decoder's name are libFuzzer's. Seeds go into a corpus in a temporary folder.
"""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path


def main() -> None:
    """Fuzz one decoder until libFuzzer ends or something is found."""
    atheris = importlib.import_module("atheris")

    with atheris.instrument_imports(include=["tieline_client", "tieline_server"]):
        from tests.fuzz import decoders

    name, *options = sys.argv[1:]
    decoder = (decoders.DECODERS | decoders.SLOW)[name]
    with tempfile.TemporaryDirectory(prefix="corpus-") as corpus:
        for number, seed in enumerate(decoders.seeds_of(name)):
            (Path(corpus) / str(number)).write_bytes(seed)
        atheris.Setup([sys.argv[0], *options, corpus], lambda data: decoders.check(decoder, data))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
