"""`make taskforce`: the victim identification taskforce of November 2020, replayed."""
