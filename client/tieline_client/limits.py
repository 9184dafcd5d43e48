"""Every cap of the wire, the formats and the node, with its unit. Nothing else defines one."""

from __future__ import annotations

from datetime import timedelta

# --- identifiers and text (characters) ---
NAME_CHARS = 200
CODE_CHARS = 64
REFERENCE_CHARS = 200
SERIES_NUMBER_CHARS = 64
"""Of a repository's number of a series."""
FREE_TEXT_CHARS = 2_000
REGION_CHARS = 64
CORRECTION_ASSESSMENTS = 8
CORRECTION_TEXT_CHARS = 8_000
"""Judgements that travel with a correction, and their words together."""
VOTES_TRUSTED = 3
"""Agencies that vote for one code of a scheme, with none for another, before it is trusted."""
VOTE_KINDS_SHOWN = 1_000
DECONFLICTION_SERIES = 20
"""Series that one question notifies of."""
NOTES_PER_SERIES = 1_000
LINKS_SHOWN = 1_000
"""Other agencies' series that one series is linked with, in one view."""
SAME_AS_SHOWN = 10_000
"""Links in one list."""
IMPORTS_SHOWN = 1_000
"""Imports in one list."""
IMPORT_SERIES_SHOWN = 20
IMPORTS_NAMED = 20
"""Imports that a report of another names."""
EVENTS_SHOWN = 1_000
"""Lines of a series' history in one view."""
FREE_TEXT_PER_MESSAGE_CHARS = 16_000
"""All text of one message together: a picture must not travel as prose (threats.md 26)."""

# --- messages (bytes) ---
MESSAGE_BYTES = 2 * 1024 * 1024
"""Largest gRPC message either side accepts."""
METADATA_BYTES = 16 * 1024
ENVELOPE_BYTES = 256 * 1024
"""Largest signed payload; what is bigger travels as attachment chunks."""
UNKNOWN_FIELD_BYTES = 1_024
"""Fields of a newer minor version that a message may carry unread."""
MESSAGE_DEPTH = 12

# --- queries ---
DIGESTS_PER_BATCH = 50_000
"""Digests in one packed batch: what a message costs apart from its bytes is paid less often."""
NEAR_PER_BATCH = 20_000
"""Perceptual hashes in one: looking them up takes seconds, and nothing is heard meanwhile."""
DIGESTS_PER_BATCH_MAX = 50_000
RECORDS_PER_QUERY = 5_000_000
DIGESTS_BRIEF = 64
"""A question of so many digests goes out in one message: a stream costs three times as much."""
LOOKUPS_AHEAD = 3
"""Batches of one question that are looked up while further ones are read."""
HITS_PER_BATCH = 10_000
SERIES_PER_BATCH = 1_000
PARTS_PER_BUNDLE = 1_000
LIST_MEMORY_BYTES = 32 * 1024 * 1024
"""A question's list that is larger waits in a file: a million SHA-1 stay in memory."""
ANSWER_MEMORY_BYTES = 256 * 1024
"""One peer's answer that is larger waits in a file."""
EARLY_BYTES = 256 * 1024
EARLY_SECONDS = 1.0
"""Peers are asked while the list still comes in when the rest is more bytes than this and will
take no longer than that."""
CATEGORIES_LISTED = 256
COLLECTION_PART_ITEMS = 1_000_000
"""Item ids that one part of a comparison spans; each part is a question of its own."""
COLLECTION_PAGE_ITEMS = 50_000
COLLECTION_ROWS = 1_000
PEERS_AT_ONCE = 4_096
"""Threads that ask peers, made as they are needed; each waits for one peer."""
TOGETHER_SECONDS = 0.002
"""Ends of a brief question's peers that come so close to one another are logged in one commit."""
READ_TOGETHER_SECONDS = 0.05
"""One thread reads the answers to a brief question for so long; then each peer gets its own."""
EXCLUSION_ROUNDS = 3
"""Times that a question is sent again without what is known good."""
SERIES_PER_ANSWER = 100_000
"""Series that one peer may name in one answer."""
NEAR_RADIUS = 31
"""PDQ Hamming distance, bits of 256."""
NEAR_ANSWERS_PER_HASH = 100
NEAR_ANSWERS_PER_HASH_MOST = 10_000
"""Largest cap that a caller may ask for."""
REPEATED_HITS_MOST = 1_000_000
"""Items that a question may find whose hits wait until its whole list has come: it was charged
before."""
HITS_PER_ANSWER, HITS_PER_DIGEST = 1_000_000, 100
"""What an asker takes of one peer: so many hits, and so many more for each digest asked."""
PDQ_MIN_QUALITY = 50
"""Below this PDQ quality (0-100) a hash says too little; it is set aside at import."""

# --- budgets (units: asked records; a perceptual hash costs ten) ---
BUDGET_UNITS = 5_000_000
"""What one peer may ask on one UTC day, unless the node's configuration or an admin says else."""
NEAR_UNITS = 10
BUDGET_BLOCK_UNITS = 1_000
"""Units reserved ahead, so that small questions need no commit of their own for their budget."""
BUDGET_WARN_PERCENT = 80
BUDGET_DAYS_KEPT = 30
REQUESTS_REMEMBERED = 256
"""Ids of one peer's questions that are known from memory; the others are looked up."""
COUNT_LEAST = 10
"""Below so many asked records, or items of a series, no count is told."""

# --- signs of enumeration ---
LOW_HITS_ASKED = 1_000_000
"""Records that a peer asks in a day before its share of hits is judged."""
LOW_HITS_ONE_IN = 1_000
"""Fewer hits than one in so many records are a sign."""
CRAFTED_LEAST = 64
CRAFTED_SAMPLE = 512
"""Digests of a batch that are looked at."""
CRAFTED_ALIKE = 16
"""Digests of a sample that may share four bytes at one place, or a step to the next."""
PDQ_OFF_BALANCE = 4
"""Bits by which the set ones of a PDQ hash may be more or fewer than half."""
PDQ_ODD_ONE_IN = 3
"""More such hashes than one in so many of a sample are a sign."""
LISTS_LEAST = 20
"""Records of the smallest list that is compared with those before it."""
LISTS_ALIKE = 0.8
"""Jaccard's index from which two lists count as almost the same."""
LISTS_SKETCHED = 16
"""Digests of the smallest list that can be almost the same as one that is compared: less is not
kept, and takes no place among the newest."""
LISTS_ALIKE_A_DAY = 10
LISTS_ALIKE_CASES = 3
LISTS_COMPARED = 200
"""A peer's newest lists that one is compared with."""
LISTS_WAITING = 50
"""Lists that wait for being compared; older ones are passed over."""
PATTERNS_WAITING = 256

# --- splits of series ---
SPLIT_ITEMS = 20_000
"""Items split off at once: their digests fit into one message to the own node."""
SPLIT_MARKS = 6_000
"""Marks of 32 bytes in one signed word; ENVELOPE_BYTES hold them, forwarded as well."""
SPLIT_RECORDS_NAMED = 10
"""Records that a refusal names."""

# --- attachments ---
ITEMS_PER_CHUNK = 5_000
ITEMS_PER_ATTACHMENT = 2_000_000

ATTACHMENTS_OPEN_PER_PEER = 64
"""Staged attachments of one peer whose messages have not come."""
BROADCAST_REPEATED = timedelta(hours=1)
"""Within which the same broadcast again is taken for a mistake."""
STAGED_LIFE = timedelta(days=7)
"""What is staged and not claimed by its message is erased after this."""
REFERENCES_PER_SERIES = 64
"""Numbers in other systems that are kept of a series; an ICSE export has one for every image."""
PASS_ONS_MOST = 6
"""Hands that a referral may go through; each adds its envelope around those before."""

# --- alerts (VICS) ---
ALERT_TEXT_CHARS = 10_000
ALERT_TRIGGERS = 50_000
"""Triggers of one alert that are read; RECORD_BYTES bounds them too."""

# --- clues and tips ---
WORD_CHARS = 40
"""Longest run of letters and digits in a description: longer ones are coded text."""
CLUES_PER_SERIES = 200
TIPS_PER_BATCH = 500
TIPS_PER_SOURCE_DAY = 50
"""Tips that one source may bring on one UTC day; what is over is counted and not kept."""
TIPS_UNNAMED_DAY = 100_000
"""The same of all tips whose source is not named."""
TIPS_PER_RELAY = 200

# --- operations ---
OPERATION_PARTICIPANTS = 200
OPERATION_SERIES = 10_000
"""Series of one operation."""
SERIES_PER_CHANGE = 1_000
"""Series that one call adds to an operation, or assigns."""
OPERATIONS_LISTED = 1_000
TRIAGE_SHOWN = 1_000
TRIAGE_BYTES = 1024 * 1024
"""Series of a triage list in one answer, and their bytes."""
OPERATION_DAYS = 730
"""Days that a report shows one by one."""

# --- imports ---
RECORDS_PER_IMPORT_BATCH = 2_000
RECORDS_PER_COLUMNS = 10_000
"""Records of one batch in columns: one transaction of staging."""
VOTES_PER_RECORD = 16
REFERENCES_PER_RECORD = 16
RECORDS_PER_STAGE_TRANSACTION = 10_000
SERIES_PER_EXPORT = 256
DIFFERENCES_LISTED = 1_000
"""Items named in a reconciliation; all are counted."""
REJECTED_LISTED = 1_000
"""Rejected records named in a report; all are counted."""
CATEGORIES_LISTED = 20
"""Categories of a file named for which records were excluded."""
VOTE_SETS_REMEMBERED = 1_000
"""Different sets of categories of a file that are looked at for these."""
JSON_DEPTH = 64
JSON_STRING_BYTES = 1024 * 1024
JSON_WINDOW_BYTES = 64 * 1024
"""Objects of an array that are parsed at once; more of them no longer stay in the cache."""
MEDIA_PER_BLOCK = 2_000
"""Media of a VICS file that become columns at once."""
JSON_FIELDS = 256
"""Fields of one JSON object that is read."""
RECORD_BYTES = 8 * 1024 * 1024
"""One record of a JSON or XML file, with everything nested in it."""
ALTERNATIVE_HASHES = 64
"""Entries of one record's AlternativeHashes that are looked at."""
GRAPH_TERMS = 8_192
"""Names that the context of a CASE file explains."""
GRAPH_TERM_STEPS = 16
"""Names that one of them is explained through."""
GRAPH_NODE_VALUES = 20_000
"""Values in one node of a graph; what a container lists is read one by one and not counted."""
GRAPH_PART_BYTES = 256 * 1024
"""A node that others refer to (facet, hash, marking), as it is kept aside."""
LINE_BYTES = 64 * 1024
LINES_PER_BLOCK = RECORDS_PER_COLUMNS
LINE_BLOCK_BYTES = 2 * 1024 * 1024
"""Lines that are parsed at once, whichever comes first."""
READ_LINES_BYTES = 1024 * 1024
"""One read of a file of lines."""
XML_DEPTH = 64
XML_TOKEN_BYTES = 1024 * 1024
"""One tag, comment or piece of text of an XML file."""
SQLITE_STEPS_PER_FETCH = 200_000_000
"""Steps of SQLite's virtual machine for a thousand rows, after which a database is refused."""
TABLE_COLUMNS = 256
READ_BYTES = 16 * 1024
"""One read of a file; 8-16 KiB measured best: what yajl makes of it stays in the cache."""

# --- time ---
CLOCK_TOLERANCE = timedelta(hours=25)
NODE_LEAF_LIFE = timedelta(days=7)
RENEWAL_RETRY = timedelta(minutes=10)
"""A leaf that could not be renewed (a token that is not there) is tried again after this."""
OPERATOR_LEAF_LIFE = timedelta(days=365)
AUTHORITY_LIFE = timedelta(days=3650)
ENVELOPE_LIFE = timedelta(days=90)
"""A queued message may wait this long for its recipient."""
QUERY_LIFE = timedelta(minutes=15)

# --- connections (seconds, counts) ---
HELLO_SECONDS = 5.0
GREETERS = 8
"""Peers greeted at once by a node that starts."""
UNARY_SECONDS = 15.0
EXAMINE_SECONDS = 120.0
EXPORT_SECONDS = 3_600.0
"""One export, its file written meanwhile."""
"""`tieline doctor` meets every peer; one that does not answer takes HELLO_SECONDS."""
QUERY_SECONDS = 60.0
STREAM_IDLE_SECONDS = 20.0
CONNECTION_AGE_SECONDS = 1_800
RPC_THREADS = 128
"""Threads are made as calls need them; peers that all stall at once hold their own few each."""
CONCURRENT_RPCS = 1_000
CONCURRENT_RPCS_PER_PEER = 8
CONCURRENT_STREAMS_PER_PEER = 4
"""Of those, calls that stream: each holds a thread while its peer is slow."""

# --- nodes that only call out (seconds, counts, bytes) ---
RELAY_FRAME_BYTES = 64 * 1024
RELAY_STREAMS = 1_000
"""Standing streams and relayed connections of all peers together. Each holds two threads (a
standing stream one), which come from a pool of their own and not from RPC_THREADS."""
RELAY_STREAMS_PER_PEER = 256
"""Relayed connections that one peer has a side of."""
RELAY_STREAMS_PER_PAIR = 4
"""Connections of one peer to the same other."""
RELAY_SECONDS = 1_800.0
RELAY_SILENCE_SECONDS = 600.0
"""A relayed connection of which one side says nothing for so long is ended."""
RELAY_IDLE_SECONDS = 240.0
"""Whoever calls over a relay ends a connection without calls after this."""
RELAYED_AGE_SECONDS = 1_400.0
"""Age of connections that come over a relay: with gRPC's jitter of a tenth and the grace they end
in order before CONNECTION_AGE_SECONDS ends what carries them."""
RELAY_ANSWER_SECONDS = 4.0
"""An attached node takes up a connection within this."""
ATTACH_SECONDS = 1_500.0
"""A standing stream ends in order after this, and the next is opened."""
ATTACH_GAP_SECONDS = 2.0
"""Whoever wants to reach a node that was attached just now waits so long for its next stream."""
ATTACH_BEAT_SECONDS = 15.0
ATTACH_SILENCE_SECONDS = 50.0
"""Without a sign of life for so long a standing stream is given up and opened anew."""
ATTACH_RETRY_MOST_SECONDS = 30.0
ATTACHED_PER_PEER = 2
"""Standing streams of one peer that are kept; the newest count."""
ATTACH_CALLS_PER_PEER = 8
"""The same before the older ones are ended."""
ATTACH_TO_MOST = 256
"""Members that a node which only calls out is attached to; hubs first."""
PROXY_FILE_BYTES = 1_024
PEER_CALLS_PER_SECOND = 200.0
"""Calls that one peer may make in the long run; a node's configuration may say otherwise."""
PEER_CALLS_AT_ONCE_SECONDS = 10.0
"""Who was silent may make the calls of so many seconds at once."""

# --- delivery ---
RETRY_FIRST_SECONDS = 0.5
RETRY_MOST_SECONDS = 300.0
RETRY_JITTER_MOST = 1.25
"""A wait is multiplied by a random factor between 2 minus this and this."""
CONTACT_SECONDS = 3_600.0
"""How often standings are exchanged with a peer that nothing else is exchanged with."""
ARCHIVE_LIFE = timedelta(days=90)
"""Envelopes stay in the outbox so long after they were settled, at least as long as backups live:
a recipient restored from one gets again what it lacks."""
SENT_PAGE = 64
SENT_PAGE_BYTES = 1024 * 1024
"""Messages given back at once to a sender that was restored."""
DELIVERY_BATCH = 64
"""Messages taken from the outbox at once, per destination, and delivered in one call."""
DELIVERY_BATCH_BYTES = 1024 * 1024
"""Envelopes of one call together; a single message may have ENVELOPE_BYTES and is always taken."""
DELIVERY_SECONDS_AIM = 2.0
"""A call that took longer is followed by one of half as many messages: what is more urgent waits
for the call before it."""
LOOPS_AT_WORK = 2
"""Delivery loops that read or settle a batch at the same time. Each statement lets go of the
interpreter's lock, so that fifty of them spend more time taking turns than working."""
ATTACHMENTS_PER_BATCH = 16
ITEMS_PER_BATCH = 50_000
"""Items of one call's attachments together; a single attachment may have ITEMS_PER_ATTACHMENT."""

# --- backups ---
BACKUP_LIFE = timedelta(days=90)
"""Longest life of a backup. Peers keep what they sent at least as long, so that a node restored
from any valid backup gets what it lacks; and what is erased is gone from backups after it."""

# --- alarms ---
ESCALATE_AFTER = timedelta(hours=1)
"""An immediate referral that nobody acknowledged by then is escalated."""
ALARM_SHOWN = timedelta(days=7)
"""An alarm that no step ends (the hub's) is shown so long."""
ALARMS_SHOWN = 100
ALARM_LOOK_SECONDS = 30.0
"""How often the clock of alarms is looked at, at least: it may have been set."""
ALARM_COMMAND_SECONDS = 60.0
OUTSIDE_SHOWN = 1_000
"""Tellings by other means that a retraction lists."""
CLOCK_SHOWN = 10_000
"""Lines of the referral clock that are shown or reported one by one."""

# --- requests that a person decides ---
REQUEST_LIFE = timedelta(days=30)
"""An undecided or refused request is kept so long."""
RELEASE_LIFE = timedelta(days=30)
"""An approved release, or permission, holds so long unless its officer says otherwise."""
RELEASE_LIFE_MOST = timedelta(days=90)
"""As long as a signed message may be valid (ENVELOPE_LIFE)."""
VITAL_INTERESTS_LIFE = timedelta(days=1)
"""A second officer confirms within this, and what was confirmed for questions holds so long."""
SERIES_PER_REQUEST = 1_000
"""Series that one request names; of more, those with the most hits."""
AGENCIES_PER_PERMISSION = 100
REQUESTS_SHOWN = 1_000

# --- retention ---
RETENTION_DEFAULT = timedelta(days=3 * 365)
"""Reviewed at the latest after three years (2016/794 Art. 31; 2016/680 Art. 5)."""

WATCH_RECORDS = 1_000_000
"""Items of one standing query; more are several."""
WATCHES_MOST = 200
"""Standing queries that an agency has at a time."""
WATCHED_RECORDS_MOST = 5_000_000
"""Items of all of them together: what a peer's default budget lets ask in a day."""
WATCH_LIFE = timedelta(days=366)
"""Longest time that a standing query may stand; then a person states it anew."""
WATCH_PART_RECORDS = 250_000
"""Items of a standing query that are asked in one question, so that a budget or a node that
ends half-way costs no more than the rest."""
WATCH_PIECE_DIGESTS = 20_000
"""Digests of a standing query that come, and are kept, in one piece."""
WATCH_COMING = timedelta(hours=1)
"""A standing query whose list has not come to its end by then is dropped."""
WATCH_HOUR = 2
"""Hour of the day, UTC, from which on standing queries are asked anew."""
WATCH_LOOK = timedelta(minutes=1)
"""How often it is looked at whether a standing query is due, or ends."""
WATCH_CLAIM = timedelta(minutes=30)
"""A run that is not heard of for so long left its peers to the next."""
WATCH_RETRY = timedelta(hours=1)
"""A peer that could not be reached is tried again after this."""
WATCH_RUN_SECONDS = 4 * 3600.0
"""A person's run of all standing queries."""
WATCH_NOTICES_SHOWN = 200
WATCH_SERIES_NAMED = 100
"""Series that one notice of a match names at most."""
LIST_IN_ENTRY_BYTES = 24 * 1024
"""An asked list up to this is kept in its audit entry, a longer one in a file of its own."""
AUDIT_KEPT = timedelta(days=3 * 365 + 1)
"""Entries of the audit log are kept so long unless the agency says otherwise."""
ERASED_AT_ONCE = 2_000
"""Entries erased in one transaction."""
READ_AGAIN = timedelta(minutes=5)
"""Who looks at the same thing again within this adds no entry to the audit log."""
SUBJECTS_PER_ENTRY = 400
READS_REMEMBERED = 10_000
CHECKPOINTS_CROSS = timedelta(minutes=2)
"""Two threads of one node read the size of its log and sign it within so long of each other: of two
checkpoints signed so close the later one may be the smaller."""
HEADS_TOLD = 64
"""Checkpoints of other agencies told in one contact."""
HEADS_REMEMBERED = 20_000
"""Heads of logs that a node knows by heart as heard before."""
DOUBT_AGAIN = timedelta(minutes=5)
"""How soon an agency is asked again to prove what others tell of its log."""
SKETCH_LIFE = timedelta(days=30)
"""Sketches of the lists that peers asked are erased after this."""

# --- certificates, keys, envelopes ---
KEY_FILE_BYTES = 16 * 1024
PASSPHRASE_CHARS_LEAST = 12
LEAF_CACHE_ENTRIES = 4_096
"""Leaves whose checks are remembered; the oldest goes first."""
PAYLOAD_TYPE_CHARS = 100
SIGNATURES_PER_ENVELOPE = 4
SIGNATURE_BYTES = 72
"""Longest DER signature of ECDSA P-256 (two integers of at most 33 bytes)."""
CONNECTION_STREAMS = 100
"""Calls open at once on one connection; a peer's own cap is CONCURRENT_RPCS_PER_PEER."""
CONNECTION_GRACE_SECONDS = 90
"""What a call may still take once its connection is past CONNECTION_AGE_SECONDS."""
HANDSHAKE_SECONDS = 10
RECONNECT_FIRST_SECONDS = 0.2
RECONNECT_MOST_SECONDS = 1.0
"""After a failed connection gRPC itself waits so long; the longer back-off is delivery's."""
RETIRED_SECONDS = 10.0
"""A channel that another took the place of is closed after this, once no call runs on it."""
RECHECK_SECONDS = 1.0
"""Within a stream the caller is looked at again at the first message after this."""
KEEPALIVE_SECONDS = 60
KEEPALIVE_ANSWER_SECONDS = 20

# --- directory ---
DIRECTORY_ONLINE_LIFE = timedelta(days=14)
"""Snapshot and timestamp: how long a member can be kept on an old directory unawares."""
DIRECTORY_TARGETS_LIFE = timedelta(days=365)
"""What the authority states; any signed change, or `federation renew`, starts it anew."""
DIRECTORY_FILE_BYTES = 2 * 1024 * 1024
"""Largest single file of a directory or enrolment request."""
DIRECTORY_VERSION_MOST = 2**53
"""Highest number of a version: what every JSON reader and the wire take."""
DIRECTORY_BUNDLE_BYTES = 64 * 1024 * 1024
"""Largest directory in one file, and the most that one refresh reads."""
DIRECTORY_RENEW_AFTER = timedelta(days=1)
"""Whoever holds the online keys signs snapshot and timestamp again when they are so old."""
DIRECTORY_POLL_SECONDS = 15.0
"""How often a node asks whether there is a newer directory; a revocation has a minute."""
DIRECTORY_EXPIRED_POLL_SECONDS = 5.0
"""The same past its expiry."""
DIRECTORY_CALL_SECONDS = 10.0
DIRECTORY_FETCH_SECONDS = 30.0
"""All files of one refresh from one peer."""
DIRECTORY_CATCH_UP_SECONDS = 5.0
"""How long a call waits for the newer directory that its caller works with."""
DIRECTORY_CLAIM_SECONDS = 30.0
"""A member that claimed a newer directory and had none is not believed again for so long."""
DIRECTORY_ASKED_AT_ONCE = 8
"""Peers asked in one round when no hub answers."""
DIRECTORY_PART_BYTES = 64 * 1024
DIRECTORY_NAMES = 100
"""Files asked for in one call."""
DIRECTORY_NAMES_CHARS = 12_000
DIRECTORY_SUBMIT_SECONDS = 5.0
"""One agency may change its own part of the directory so often."""
KEY_HOLDERS = 16
MEMBERS = 1_000
GROUPS = 500
PURPOSES = 200
COUNTRIES_PER_MEMBER = 64
ENDPOINTS_PER_MEMBER = 8
CAS_PER_MEMBER = 8
SIGNING_KEYS_PER_MEMBER = 64
REVOKED_SERIALS_PER_MEMBER = 10_000
CERTIFICATE_BYTES = 8 * 1024

# --- policy ---
POLICY_FILES = 64
POLICY_FILE_BYTES = 256 * 1024
POLICY_CASES = 10_000
POLICY_NUMBER_MOST = 10**9
"""Largest number a rule may see: the product of two stays inside Cedar's 64 bits."""
DECISIONS_CACHED = 4_096
DELIVER_SECONDS = 60.0
"""One message or chunk; the receiver commits durably before it answers."""
QUERY_SECONDS_MOST = 600
"""Longest that a person may wait for a peer's answer."""

# --- a person at the own node (seconds, bytes) ---
PROFILE_BYTES = 64 * 1024
ACTION_SECONDS = 120.0
"""An act that packs a series' items: refer, broadcast, upload."""
IMPORT_SECONDS = 6 * 3600.0
"""One file, however large."""
ASK_SENDING_SECONDS = 900.0
"""Sending the question to the own node, before its peers' time begins."""
AUDIT_SECONDS = 3600.0
"""The whole audit log."""
RECORD_BATCH_BYTES = 1024 * 1024
"""A batch of records on its way to the own node; well under MESSAGE_BYTES."""
COLUMNS_BATCH_BYTES = 1536 * 1024
"""The same in columns; 10,000 records with every kind of digest fit."""
STDIN_BYTES = 4 * 1024**3
"""A list that comes through a pipe and is spooled."""
AUDIT_LEAF_BYTES = 64 * 1024
AUDIT_HEADER_BYTES = 128 * 1024 * 1024
"""First line of an audit export: 8 characters an entry and a little more."""
RECEIPT_FILE_BYTES = 64 * 1024 * 1024
"""A receipt with the files of its directory."""
AUDIT_SEARCH_SECONDS = 60.0
SEARCHED_AT_ONCE = 500_000
"""Entries that one call of a search looks at: a second or two of them."""
FOUND_AT_ONCE = 500
FOUND_BYTES = 1024 * 1024
"""What one call of a search returns at most; one entry at least."""
AUDIT_FOUND = 1_000
"""Entries that one audit search shows unless asked for more."""

# --- calls as the server bounds them ---
OPERATOR_SECONDS = 60.0
"""A call of a person that is no stream."""
ASK_SECONDS = 900.0
"""A person's question to all peers, the sending of up to RECORDS_PER_QUERY included."""
IMPORT_SECONDS = 4 * 3600.0
COLLECTION_SECONDS = 4 * 3600.0
"""Everything that an agency holds, part by part."""
AUDIT_STREAM_SECONDS = 900.0
WATCH_SECONDS = 0.25
"""How often calls are looked at for one that is stuck."""
OVERTIME_SECONDS = 5.0
"""After its deadline a call ends itself with a reason; this much later it is cut off."""
REQUESTS_AHEAD = 2
"""Messages of a request stream read before they are asked for."""
ERROR_TEXT_BYTES = 1_024
ERROR_METADATA_ENTRIES = 8

# --- refusals in the audit log ---
REFUSAL_WINDOW = timedelta(minutes=1)
REFUSAL_KINDS = 1_000
"""Distinct refusals counted apart within one window; beyond, they are counted together."""
STOP_SECONDS = 10.0
"""A stopping node waits so long for what is under way."""
