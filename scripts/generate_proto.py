"""Regenerate the protobuf modules beside their .proto files, or check that they are fresh."""

from __future__ import annotations

import argparse
import filecmp
import shutil
import sys
import tempfile
from pathlib import Path

import grpc_tools
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
SUFFIXES = ("_pb2.py", "_pb2.pyi", "_pb2_grpc.py", "_pb2_grpc.pyi")


def generate(out: Path) -> None:
    """Write the modules of every .proto file below proto/ into ``out``."""
    bin_folder = Path(sys.executable).parent
    sources = sorted(str(path) for path in PROTO.rglob("*.proto"))
    well_known = str(Path(grpc_tools.__file__).parent / "_proto")
    arguments = [
        "protoc",
        f"-I{PROTO}",
        f"-I{well_known}",
        f"--plugin=protoc-gen-mypy={bin_folder / 'protoc-gen-mypy'}",
        f"--plugin=protoc-gen-mypy_grpc={bin_folder / 'protoc-gen-mypy_grpc'}",
        f"--python_out={out}",
        f"--grpc_python_out={out}",
        f"--mypy_out=quiet:{out}",
        f"--mypy_grpc_out=quiet:{out}",
        *sources,
    ]
    if protoc.main(arguments):
        sys.exit("protoc failed; its message stands above")
    for module in out.rglob("*_pb2_grpc.py"):
        if "Service" not in module.read_text():
            module.unlink()
            module.with_suffix(".pyi").unlink(missing_ok=True)


def modules(folder: Path) -> dict[Path, Path]:
    """Return the generated modules below a folder by their relative path."""
    return {
        path.relative_to(folder): path for path in folder.rglob("*") if path.name.endswith(SUFFIXES)
    }


def main() -> None:
    """Run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; fail when stale")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as folder:
        fresh_folder = Path(folder)
        generate(fresh_folder)
        fresh, present = modules(fresh_folder), modules(PROTO)
        stale = [
            str(path)
            for path in sorted({*fresh, *present})
            if path not in fresh
            or path not in present
            or not filecmp.cmp(fresh[path], present[path], shallow=False)
        ]
        if check:
            if stale:
                sys.exit(f"generated code is stale, run `make proto`: {', '.join(stale)}")
            return
        for path in present.values():
            path.unlink()
        for relative, path in fresh.items():
            shutil.copy(path, PROTO / relative)
    print(f"{len(fresh)} modules")


if __name__ == "__main__":
    main()
