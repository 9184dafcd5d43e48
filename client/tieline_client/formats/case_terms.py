"""The words of CASE / UCO JSON-LD that Tieline writes and reads, and what it says in tags.

UCO has no property for a category with its scheme, for flags and counts. They are tags,
``NAME=VALUE``, of which a reader takes these and passes over all others.
"""

from __future__ import annotations

from tieline_client.formats.fields import BadRecord, read_text, read_vote
from tieline_client.formats.record import Vote
from tieline_client.limits import CODE_CHARS

UCO = "https://ontology.unifiedcyberontology.org/uco/"
CONTEXT = {
    "uco-core": f"{UCO}core/",
    "uco-identity": f"{UCO}identity/",
    "uco-marking": f"{UCO}marking/",
    "uco-observable": f"{UCO}observable/",
    "uco-types": f"{UCO}types/",
    "xsd": "http://www.w3.org/2001/XMLSchema#",
}
HASHES = (
    ("MD5", "md5"),
    ("SHA1", "sha1"),
    ("SHA256", "sha256"),
    ("PDQ", "pdq"),
    ("PhotoDNA", "photodna"),
)
"""Methods, plain words since UCO 1.4, and the record's fields."""
FLAG_TAGS = {
    "victim-identified": "victim_identified",
    "offender-identified": "offender_identified",
    "distributed": "distributed",
    "baseline": "baseline",
}
COUNT_TAGS = {"submissions": "submissions"}
QUALITY_TAG = "pdq-quality"
CATEGORY_TAG = "category"
BELONGS_TAG = "belongs=without-category"
"""Of an item that carries no category: whoever wrote the file says that it belongs all the same."""
SERIES_CONTEXT = "series"
"""Of a Grouping, what its items have in common."""
NO_MARKING = "as its provider says"


def iri(name: str) -> str:
    """Return the whole name of a term given with its usual prefix."""
    space, _, local = name.partition(":")
    return CONTEXT[space] + local


def vote_tag(vote: Vote) -> str:
    """Return the tag of a category."""
    return f"{CATEGORY_TAG}={vote.scheme}:{vote.code}"


def read_vote_tag(text: str) -> Vote | None:
    """Return the category that a tag's value states. Raises BadRecord."""
    scheme, _, code = text.rpartition(":")
    stated = read_text(scheme, "category's scheme", CODE_CHARS)
    if stated is None:
        raise BadRecord("category has a code without its scheme")
    return read_vote(code, "category", stated)


def holds_vote(vote: Vote) -> bool:
    """Whether a category comes back as it was written."""
    try:
        return read_vote_tag(f"{vote.scheme}:{vote.code}") == vote
    except BadRecord:
        return False
