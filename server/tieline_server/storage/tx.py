"""One transaction with every repository on it (`domain.ports.Tx`)."""

from __future__ import annotations

from functools import partial

from tieline_server.storage.alarms import Alarms
from tieline_server.storage.aliases import Aliases
from tieline_server.storage.attachments import Attachments
from tieline_server.storage.audit import Audit
from tieline_server.storage.audit_holds import Holds
from tieline_server.storage.broadcasts import Broadcasts
from tieline_server.storage.budgets import BudgetRows
from tieline_server.storage.clues import Clues
from tieline_server.storage.deposits import Deposits
from tieline_server.storage.erasure import Erasure
from tieline_server.storage.exports import Exports
from tieline_server.storage.history import History
from tieline_server.storage.imports import Imports
from tieline_server.storage.items import Items
from tieline_server.storage.messages import Inbox
from tieline_server.storage.operations import Operations
from tieline_server.storage.outbox import Outbox
from tieline_server.storage.people import Meta, Operators, Queries
from tieline_server.storage.referrals import Referrals
from tieline_server.storage.requests import Requests
from tieline_server.storage.retractions import Retractions
from tieline_server.storage.same_as import SameAsRows
from tieline_server.storage.savepoint import savepoint
from tieline_server.storage.series import SeriesRows
from tieline_server.storage.series_notes import SeriesNotes
from tieline_server.storage.session import Session
from tieline_server.storage.sketches import Sketches
from tieline_server.storage.splits import Splits
from tieline_server.storage.standings import Standings
from tieline_server.storage.uploads import Uploads
from tieline_server.storage.vote_counts import VoteCounts
from tieline_server.storage.watches import Watches
from tieline_server.storage.witness import Witness


class SqlRecord:
    """Implements `domain.ports.Record` over one open transaction."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self.queries = Queries(session)
        self.alarms = Alarms(session)
        self.requests = Requests(session)
        self.audit = Audit(session)
        self.sketches = Sketches(session)
        self.budgets = BudgetRows(session)

    def erasures(self) -> int:
        """Return how often holdings were erased so far."""
        return self._session.counter("erasure")


class SqlTx:
    """Implements `domain.ports.Tx` over one open transaction."""

    def __init__(self, session: Session) -> None:
        self.imports = Imports(session)
        self.items = Items(session)
        self.exports = Exports(session, self.items)
        self.series = SeriesRows(session)
        self.history = History(session)
        self.deposits = Deposits(session)
        self.aliases = Aliases(session)
        self.splits = Splits(session)
        self.votes = VoteCounts(session)
        self.same_as = SameAsRows(session)
        self.notes = SeriesNotes(session)
        self.referrals = Referrals(session)
        self.uploads = Uploads(session)
        self.broadcasts = Broadcasts(session)
        self.clues = Clues(session)
        self.operations = Operations(session)
        self.watches = Watches(session)
        self.outbox = Outbox(session)
        self.inbox = Inbox(session)
        self.attachments = Attachments(session)
        self.standings = Standings(session)
        self.retractions = Retractions(session)
        self.erasure = Erasure(session)
        self.operators = Operators(session)
        self.queries = Queries(session)
        self.audit = Audit(session)
        self.sketches = Sketches(session)
        self.budgets = BudgetRows(session)
        self.holds = Holds(session)
        self.witness = Witness(session)
        self.meta = Meta(session)
        self.alarms = Alarms(session)
        self.requests = Requests(session)
        self.savepoint = partial(savepoint, session)
        """Returns a context: what is raised inside undoes what was done inside, and no more."""
