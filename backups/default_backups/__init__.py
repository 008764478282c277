"""Default backups Farshore takes: asked for, taken by a worker of the source region, recorded (R-2.5, R-6).

The row is the job; whoever claims it holds a lease and renews it while the engine's own tool streams into the store.

asking     what can be asked for, and asking: a person, the timetable, the 24-hour check, a gap
jobs       whose a job is: claim, lease, fence, finish, fail
waiting    somebody else's backup that is already running is waited for, and used instead
overtaking one of ours that was waited for for six hours is waited for no longer
taking     the worker's part: through a share, into a bucket, by the storage, or over the connection
recording  files, set and finished job become facts
"""

from __future__ import annotations

from backups.default_backups.asking import (
    ask,
    ask_by_timetable,
    ask_logs_by_timetable,
    can_take,
    cancel_all,
    databases_in_groups,
    is_in_turn,
    kinds_of,
    side_for_logs,
)
from backups.default_backups.jobs import DATA, LOGS, claim, fail, regions_with_work, renew
from backups.default_backups.overtaking import overtake_due
from backups.default_backups.taking import take, take_and_go_on

__all__ = [
    "DATA",
    "LOGS",
    "ask",
    "ask_by_timetable",
    "ask_logs_by_timetable",
    "can_take",
    "cancel_all",
    "claim",
    "databases_in_groups",
    "fail",
    "is_in_turn",
    "kinds_of",
    "overtake_due",
    "regions_with_work",
    "renew",
    "side_for_logs",
    "take",
    "take_and_go_on",
]
