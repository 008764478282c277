"""Restoring: a new server from backup sets, built and held by a worker of the region where it stands (R-17.1, I20).

checking   what a restore would take and what speaks against it; changes nothing
asking     a restore is asked for, cancelled, removed
several    several instances in one go, each as what its engine comes back as
onto       what speaks against restoring onto an instance that is there (R-2.3)
agreeing   the second person agrees; what was replaced is let go
on_landing what speaks against restoring a database onto a landing server
holding    the worker's part: claim, build, hold the running server, bring it back after a kill
landed     the worker's part on a landing server: files into its share, a database out of them, nothing to hold
attempts   what both have in common: how an attempt is given up, failed and ended
replacing  the new server takes the place of the old one, which can come back
"""

from __future__ import annotations

from backups.restoring.agreeing import agree, confirm, lapse, why_not_agree
from backups.restoring.asking import (
    ask,
    ask_databases,
    cancel,
    connection_words,
    identity_of,
    password_of,
    remove,
    stages_of,
)
from backups.restoring.checking import Preview, bytes_of, checks, free_name, why_not
from backups.restoring.choosing import Wanted, chain_at_source, chains_at_source, databases_until, meant_by
from backups.restoring.holding import claim, regions_with_work, run
from backups.restoring.landing import Landing, announce, landing_of
from backups.restoring.on_landing import free_name as free_database_name
from backups.restoring.on_landing import needs_landing, usual_server
from backups.restoring.on_landing import server_for as landing_server_for
from backups.restoring.onto import aside_of, free_name_beside, targets_beside, why_not_original
from backups.restoring.pins import keep_pins
from backups.restoring.places import tidy
from backups.restoring.several import Outcome, Piece, Prospect, ask_many, prospects
from backups.restoring.writing_off import why_not as why_not_write_off
from backups.restoring.writing_off import write_off

__all__ = [
    "Landing",
    "Outcome",
    "Piece",
    "Preview",
    "Prospect",
    "Wanted",
    "agree",
    "announce",
    "aside_of",
    "ask",
    "ask_databases",
    "ask_many",
    "cancel",
    "chain_at_source",
    "chains_at_source",
    "bytes_of",
    "checks",
    "claim",
    "confirm",
    "connection_words",
    "databases_until",
    "free_database_name",
    "free_name",
    "free_name_beside",
    "identity_of",
    "keep_pins",
    "landing_of",
    "landing_server_for",
    "lapse",
    "meant_by",
    "needs_landing",
    "password_of",
    "prospects",
    "regions_with_work",
    "remove",
    "run",
    "stages_of",
    "targets_beside",
    "tidy",
    "usual_server",
    "why_not",
    "why_not_agree",
    "why_not_original",
    "why_not_write_off",
    "write_off",
]
