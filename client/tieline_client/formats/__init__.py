"""Readers of the files that users bring, and the detection of which one a file is.

``open_records`` is the way in. Every reader is a stream of ``Record | Rejected`` in bounded
memory; a file that is broken raises FormatError naming file, record and reason.
"""

from tieline_client.formats.detect import FileFormat, detect
from tieline_client.formats.reading import open_records
from tieline_client.formats.record import Record, Rejected, Vote

__all__ = ["FileFormat", "Record", "Rejected", "Vote", "detect", "open_records"]
