"""Who plays in the demonstration fleet: its places, its teams and its instances, as data.

Every instance but the PostgreSQL one is a simulation and says so (`is_simulation`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import sha256
from typing import Any

from backups.models import Arrival, BackupMethod, BillingMethod, Edition, Family
from backups.models.instance import ALPHABET

HANGZHOU, SHANGHAI, SINGAPORE = "cn-hangzhou", "cn-shanghai", "ap-southeast-1"
FRANKFURT, VIRGINIA = "eu-central-1", "us-east-1"
REGIONS = (HANGZHOU, SHANGHAI, SINGAPORE, FRANKFURT, VIRGINIA)
PAYMENTS, ANALYTICS = "Payments", "Analytics"

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SOON = timedelta(seconds=100)  # long enough to be found, copied and dated before its time is over


@dataclass(frozen=True)
class Past:
    """Back-dated full backups, by their age at the first start, and what becomes of the instance once they are copied.

    `ending` names one of demo.history.ENDINGS.
    """

    ages: tuple[timedelta, ...]
    ending: str


@dataclass(frozen=True)
class Actor:
    """One instance. `to`: where its backups go, "" while it is not set up, `logs` too; `more`: columns that differ."""

    name: str
    region: str
    group: str
    to: str = ""
    days: int = 7
    logs: bool = False
    engine: str = "sqlserver"
    past: Past | None = None
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def code(self) -> str:
        """The same at every start: it is how the fleet knows its own."""
        return "rm-" + "".join(ALPHABET[byte % len(ALPHABET)] for byte in sha256(self.name.encode()).digest()[:17])

    @property
    def prefix(self) -> str:
        return f"sqlserver/{self.name}/"

    @property
    def server(self) -> str:
        return f"SQL-{self.name.upper()}"

    @property
    def columns(self) -> dict[str, Any]:
        found = {"engine_version": "2019", "prefixes": [self.prefix], "arrival": Arrival.FOUND, "is_simulation": True}
        return found | dict(self.more)


POSTGRESQL = Actor(
    "shop",
    HANGZHOU,
    PAYMENTS,
    to=SHANGHAI,
    engine="postgresql",
    more={"engine_version": "", "prefixes": [], "arrival": Arrival.TAKEN, "is_simulation": False},
)

TREASURY = Actor(
    "treasury",
    HANGZHOU,
    PAYMENTS,
    to=SHANGHAI,
    logs=True,
    more={"engine_version": "", "prefixes": [], "arrival": Arrival.TAKEN, "log_every_minutes": 5},
)

VAULT = Actor(
    "vault",
    HANGZHOU,
    PAYMENTS,
    to=SINGAPORE,
    more={
        "engine_version": "",
        "prefixes": [],
        "arrival": Arrival.TAKEN,
        "edition": Edition.CLUSTER,
        "backup_method": BackupMethod.SNAPSHOT,
    },
)

ACTORS = (
    # Their jobs write new backups all the time (demo.sqlserver_job).
    Actor("orders", HANGZHOU, PAYMENTS, to=SHANGHAI),
    Actor("billing", HANGZHOU, PAYMENTS, to=SINGAPORE, more={"family": Family.DEDICATED}),
    Actor("ledger", HANGZHOU, PAYMENTS, to=SHANGHAI, more={"billing_method": BillingMethod.PAY_AS_YOU_GO}),
    Actor("inventory", SINGAPORE, PAYMENTS, to=HANGZHOU),
    Actor("warehouse", FRANKFURT, ANALYTICS, to=VIRGINIA, more={"family": Family.DEDICATED}),
    # Their backups reach into the past (demo.history).
    Actor(
        "archive",
        SHANGHAI,
        ANALYTICS,
        to=HANGZHOU,
        days=30,
        past=Past((12 * DAY, 7 * DAY - SOON, 5 * DAY, 3 * DAY, DAY, 6 * HOUR), "shortened"),
    ),
    Actor("loyalty", HANGZHOU, PAYMENTS, to=SHANGHAI, days=30, past=Past((20 * DAY, 10 * DAY, 2 * DAY), "released")),
    Actor("campaigns", SINGAPORE, ANALYTICS, to=HANGZHOU, past=Past((6 * DAY, 4 * DAY, 20 * HOUR), "disabled")),
    # Enabled, and nothing has arrived yet.
    Actor("tills", VIRGINIA, PAYMENTS, to=FRANKFURT, more={"edition": Edition.BASIC}),
    # Pending: not set up yet.
    Actor("people", HANGZHOU, ANALYTICS),
    Actor("customers", FRANKFURT, ANALYTICS, more={"edition": Edition.BASIC}),
    Actor(
        "catalogue",
        SHANGHAI,
        ANALYTICS,
        more={"edition": Edition.CLUSTER, "backup_method": BackupMethod.SNAPSHOT, "engine_version": "2022"},
    ),
    Actor("reviews", SINGAPORE, ANALYTICS, engine="mariadb", more={"engine_version": "11.4", "prefixes": []}),
    # Not eligible, each for its own reason.
    Actor("sandbox", HANGZHOU, ANALYTICS, more={"family": Family.SHARED}),
    Actor("previews", HANGZHOU, PAYMENTS, more={"billing_method": BillingMethod.SERVERLESS}),
    Actor("imaging", VIRGINIA, ANALYTICS, more={"backup_method": BackupMethod.SNAPSHOT}),
)


def named(name: str) -> Actor:
    return next(actor for actor in (POSTGRESQL, TREASURY, VAULT, *ACTORS) if actor.name == name)
