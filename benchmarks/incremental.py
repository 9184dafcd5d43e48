"""Read your own writes: ``python -m benchmarks.incremental --size N``.

A node holds N items. A person imports files of RECORDS records one after another, with SHA-1, MD5
and a series, through `OperatorClient`. As soon as an import has ended, the hub asks for all of its
items and has to find each of them, in the series that the file names. All the while another person
at the hub asks the same node for known and unknown digests, whose answers are checked, too. The
figure is items committed and found a second, from the first file to the last answer.

It works on a copy of the node's folder, which is removed at the end.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
from tieline_client.asked_list import AskedList
from tieline_client.digests import DigestKind
from tieline_client.formats import FileFormat
from tieline_client.importing import ImportOptions
from tieline_client.operator_client import OperatorClient

from benchmarks import data, end_to_end, nodes
from benchmarks.rows import arguments, report

RECORDS = 10_000
"""Records of one import."""
IMPORTS = 50
BESIDE = 2_000
"""Digests of one question of the other person; 2 % of them are held."""
KIND = DigestKind.SHA1


@dataclass(frozen=True, slots=True)
class File:
    """One small import, and the question that has to find all of it."""

    path: Path
    asked: AskedList
    named: npt.NDArray[np.bool_]
    """Which of the asked are in a series."""


def main() -> None:
    """Measure, and write the row."""
    parser = arguments(__doc__, size=1_000_000)
    parser.add_argument("--imports", type=int, default=IMPORTS, help="files, one after another")
    options = parser.parse_args()
    asked, rows = data.asked_exact(data.digests(KIND, options.size), BESIDE)
    held = np.flatnonzero(rows >= 0)
    with (
        nodes.copied(options.data, options.size, as_is=options.as_is) as made,
        TemporaryDirectory() as folder,
    ):
        hub, holder = made[nodes.HUB], made[nodes.HOLDERS[0]]
        first, *files = files_of(Path(folder), options.size, options.imports + 1)
        with holder.client() as importer, hub.client() as asker, hub.client() as other:
            beside = Beside(other, asked, held)
            correct = imported_and_found(importer, asker, first)
            beside.start()
            began = time.perf_counter()
            found = sum(imported_and_found(importer, asker, one) for one in files)
            took = time.perf_counter() - began
            beside.end()
            items = importer.get_stats().items - options.size
    correct = correct and found == len(files) and items == RECORDS * (len(files) + 1)
    print(
        f"{len(files)} imports of {RECORDS} items in {took:.1f} s; "
        f"{beside.answered} questions of {BESIDE} digests answered beside, "
        f"{beside.answered * BESIDE / took:,.0f} lookups/s"
    )
    correct = correct and beside.correct and beside.answered > 0
    report("incremental", options.size, RECORDS * len(files) / took, None, correct)


def files_of(folder: Path, size: int, count: int) -> list[File]:
    """Write small files of the items that come after the held ones."""
    made = []
    items = data.digests(KIND, count * RECORDS, size)
    for number, start in enumerate(range(0, len(items), RECORDS)):
        path = nodes.write_csv(folder / f"{number}.csv", size + start, RECORDS)
        rows = items[start : start + RECORDS]
        order = np.lexsort(rows.T[::-1])
        named = nodes.series_of(size + start + order) >= 0
        made.append(File(path, AskedList.from_digests(KIND, rows[order]), named))
    return made


def imported_and_found(importer: OperatorClient, asker: OperatorClient, file: File) -> bool:
    """Import a file and ask for its items at once; return whether all were found."""
    told = importer.import_file(file.path, FileFormat.CSV, ImportOptions(case_ref=nodes.CASE))
    answer = end_to_end.ask(asker, file.asked)
    whole = (
        told.node.items_new == RECORDS
        and np.array_equal(answer.matches.records, np.arange(RECORDS))
        and np.array_equal(np.diff(answer.matches.series_starts), file.named)
    )
    if not whole:
        print(f"{file.path.name}: {told.node.items_new} new, {len(answer.matches)} found")
    return whole


class Beside:
    """The other person, who asks all the time."""

    def __init__(self, client: OperatorClient, asked: data.U8, held: data.I64) -> None:
        self._client, self._asked, self._held = client, asked, held
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._ask, name="beside", daemon=True)
        self.answered, self.correct = 0, True

    def start(self) -> None:
        self._thread.start()

    def end(self) -> None:
        """Return once the last question is answered."""
        self._ending.set()
        self._thread.join()

    def _ask(self) -> None:
        while not self._ending.is_set():
            answer = end_to_end.ask(self._client, AskedList.from_digests(KIND, self._asked))
            self.correct &= np.array_equal(answer.matches.records, self._held)
            self.answered += 1


if __name__ == "__main__":
    main()
