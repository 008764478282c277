"""A server's ways: settings that decide what a statement in its log does, and the clock it goes by.

A log holds statements as well as rows, and MariaDB does not write down all that they depend on. The backup does, in a
file of our own at its beginning, and the server that replays has them too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo, available_timezones

from backups.engines.mariadb.connecting import Session, ask

FILE = "farshore_server.json"
ZONES = Path("/usr/share/zoneinfo")  # where the server will look
SAMPLES = 24  # months, this year's and the last's: summer time tells zones apart

# What is kept, and what may stand there: a copy is not trusted.
KEPT = {
    "lower_case_table_names": r"[012]",
    "default_storage_engine": r"(?i:InnoDB|Aria|MyISAM|MEMORY)",
    "character_set_server": r"\w{1,40}",
    "collation_server": r"\w{1,60}",
    "sql_mode": r"[A-Z_,0-9]{0,900}",
    "explicit_defaults_for_timestamp": r"0|1|ON|OFF",
    "innodb_default_row_format": r"\w{1,20}",
    "default_week_format": r"\d",
    "div_precision_increment": r"\d{1,2}",
    "group_concat_max_len": r"\d{1,20}",
    "max_sort_length": r"\d{1,10}",
}


@dataclass(frozen=True)
class Ways:
    """`zone` is one that has kept the server's time so far, "" when none has; `offset` its minutes before UTC now."""

    settings: Mapping[str, str] = field(default_factory=dict)
    zone: str = ""
    offset: int = 0

    @property
    def environment(self) -> dict[str, str]:
        """What a process that keeps the server's time is told."""
        if self.zone in available_timezones() and (ZONES / self.zone).is_file():
            return {"TZ": self.zone}
        sign, minutes = "-" if self.offset >= 0 else "+", abs(self.offset)
        return {"TZ": f"<far>{sign}{minutes // 60:02d}:{minutes % 60:02d}"}

    def text(self) -> bytes:
        return json.dumps(asdict(self)).encode()


def ways_of(session: Session) -> Ways:
    """Ask a server for its ways."""
    values = ask(session, "SELECT " + ", ".join(f"CAST(@@global.{name} AS CHAR)" for name in KEPT))[0]
    settings = dict(zip(KEPT, map(str, values), strict=True))
    ask(session, "SET SESSION time_zone = 'SYSTEM'")
    now = datetime.now(UTC).replace(microsecond=0)
    moments = [now - timedelta(days=30 * month) for month in range(SAMPLES)]
    shown = [_shown(session, moment) for moment in moments]
    return Ways(settings, _zone_like(moments, shown), shown[0])


def _shown(session: Session, moment: datetime) -> int:
    """How many minutes the server's own time is before UTC at this moment."""
    local = ask(session, "SELECT CAST(FROM_UNIXTIME(%s) AS CHAR)", int(moment.timestamp()))[0][0]
    return round((datetime.fromisoformat(local).replace(tzinfo=UTC) - moment).total_seconds() / 60)


def _zone_like(moments: list[datetime], shown: list[int]) -> str:
    for name in ("UTC", *sorted(available_timezones())):
        zone = ZoneInfo(name)
        offsets = (moment.astimezone(zone).utcoffset().total_seconds() / 60 for moment in moments)
        if all(offset == seen for offset, seen in zip(offsets, shown, strict=True)):
            return name
    return ""


def ways_told(text: str) -> Ways:
    """Read what a backup tells; what cannot be one of them is left out."""
    try:
        told = json.loads(text or "{}")
        settings = {name: str(value) for name, value in told.get("settings", {}).items() if name in KEPT}
        zone, offset = str(told.get("zone", "")), int(told.get("offset", 0))
    except (ValueError, AttributeError, TypeError):
        return Ways()
    fits = {name: value for name, value in settings.items() if re.fullmatch(KEPT[name], value)}
    return Ways(fits, zone, offset if abs(offset) < 24 * 60 else 0)
