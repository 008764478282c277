"""Replaying logs up to a moment, and knowing whether that moment was really reached."""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Callable
from datetime import UTC, datetime

from backups.engines.confinement import own
from backups.engines.postgresql.feeding import LogFeed
from backups.engines.postgresql.running import Postmaster, last_words
from backups.engines.postgresql.settling import Home, sizes_from_control
from backups.engines.postgresql.tools import Tools
from regions.refusals import Refusal

TELL_SECONDS = 0.5
TOO_LITTLE = "recovery ended before configured recovery target was reached"
TOO_EARLY = "requested recovery stop point is before consistent recovery point"
LAST_CHANGE = re.compile(r"last completed transaction was at log time (\S+ \S+)\+00")

Tell = Callable[[str, int, "int | None"], None]


def replay(
    home: Home, tools: Tools, feed: LogFeed, until: datetime | None, look_up: Callable[[], None], tell: Tell
) -> datetime | None:
    """Replay and stop again; returns the time of the newest change. Raises Refusal unless `until` was reached.

    Where the logs are known to cover `until` and no later change is in them, their end is that moment.
    """
    said = _one_run(home, tools, feed, until, look_up, tell)
    if until and TOO_LITTLE in said and feed.covers(until):
        said = _one_run(home, tools, feed, None, look_up, tell)
    _refuse(said, feed, until)
    found = LAST_CHANGE.findall(said)
    return datetime.fromisoformat(found[-1]).replace(tzinfo=UTC) if found else None


def _one_run(
    home: Home, tools: Tools, feed: LogFeed, until: datetime | None, look_up: Callable[[], None], tell: Tell
) -> str:
    """Let the server replay until it is ready or has given up; returns what it said. It is gone afterwards."""
    home.write_settings({**sizes_from_control(home, tools), **_target(home, feed, until)}, network=False)
    _signal_recovery(home)
    postmaster = Postmaster(home, tools, alone=True, by=signal.SIGQUIT)
    told = time.monotonic()
    try:
        while not (postmaster.has_ended or postmaster.is_ready):
            look_up()
            feed.answer()
            if time.monotonic() - told >= TELL_SECONDS:
                told = time.monotonic()
                tell("replay", *feed.progress)
        tell("replay", *feed.progress)
    finally:
        postmaster.stop()
    return postmaster.said()


def _signal_recovery(home: Home) -> None:
    signal_file = home.data / "recovery.signal"
    signal_file.touch()
    own(signal_file, home.whom, 0o600)


def _target(home: Home, feed: LogFeed, until: datetime | None) -> dict[str, str]:
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(home.sockets),
        "restore_command": feed.command,
        "recovery_target_timeline": str(feed.timeline or "current"),
        "recovery_target_action": "promote",
    }
    if until:
        settings["recovery_target_time"] = until.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f+00")
    return settings


def _refuse(said: str, feed: LogFeed, until: datetime | None) -> None:
    if TOO_LITTLE in said:
        found = LAST_CHANGE.findall(said)
        newest = f"{found[-1][:19]} UTC" if found else "the backup itself"
        raise Refusal(
            "MomentNotReached",
            f"The logs end before this moment; their newest change is of {newest}.",
            "Restore to an earlier moment.",
            "until",
        )
    if TOO_EARLY in said:
        raise Refusal(
            "MomentTooEarly",
            "This moment is before the end of the backup that the restore begins with.",
            "Choose a later moment, or an earlier backup.",
            "until",
        )
    if "archive recovery complete" not in said:
        raise Refusal("ReplayFailed", f"The server could not replay: {last_words(said)}", "Use another backup.")
    if not until and not feed.was_used_up:
        raise Refusal("LogsBroken", "The server found a gap in the logs.", "Restore to a moment before it.", "until")
