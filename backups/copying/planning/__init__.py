"""How a finished backup becomes exactly one copy job, which is a row of `Copy` (R-5.2, R-6, I2, decision 10).

Whoever records a set leaves its `weighed_at` empty and rings. `weigh_due` answers, and the sweep calls it again for
what a lost bell forgot. `weigh` decides for one set, once, in one transaction that locks

    the set        two workers who weigh it come one after the other, and the second finds it weighed
    its instance   a policy that is being enabled for the first time is no row to wait for yet
    its policies   a change of settings comes before the decision or after it, never in between

and under each policy, by what it covered when the set came about, the set is

    owed           a copy to the policy's store, its bases ahead of it; one that lives there is adopted, never doubled
    cancelled      the policy has ended since: a row says why; if its destination changed, the new policy owes a copy
    left           nothing was promised; a full from the day before enabling ends the wait for one all the same

before `weighed_at` is written. What finished before its policy began is looked for by enabling (`examine`,
`begin_logs`), or asked for by a person (`copy_now`): with the policy locked, through the same `plan`. And the tables
refuse a second live copy of a set in one store (one_live_copy).

weighing    the decision above: each finished set once, those forgotten too
coverage    the stretches of time in which a policy promised a copy
owing       the copy written down: planned, adopted, or planned anew at another destination
cancelling  the copy that will not be made, and what is told of it
bases       the fulls and incrementals that must travel ahead of a set
checking    the 24-hour check: what each database has to begin with
databases   which databases are online
first_logs  the logs that are there already when logs are enabled
"""

from __future__ import annotations

from backups.copying.planning.bases import bases_of
from backups.copying.planning.cancelling import close_cancelled_alerts, forget_cancelled, say_cancelled
from backups.copying.planning.checking import DAY, DatabaseCheck, examine, examine_all, has_valid
from backups.copying.planning.coverage import close_coverage, open_coverage
from backups.copying.planning.databases import STILL_ONLINE, databases_seen
from backups.copying.planning.first_logs import LogBeginning, begin_logs, examine_logs_all
from backups.copying.planning.owing import copy_now, plan, plan_anew
from backups.copying.planning.weighing import has_full, weigh, weigh_due

__all__ = [
    "DAY",
    "STILL_ONLINE",
    "DatabaseCheck",
    "LogBeginning",
    "bases_of",
    "begin_logs",
    "close_cancelled_alerts",
    "close_coverage",
    "copy_now",
    "databases_seen",
    "examine",
    "examine_all",
    "examine_logs_all",
    "forget_cancelled",
    "has_full",
    "has_valid",
    "open_coverage",
    "plan",
    "plan_anew",
    "say_cancelled",
    "weigh",
    "weigh_due",
]
