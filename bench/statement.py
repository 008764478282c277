#!/usr/bin/env python3
"""A month's statement over millions of spans, beside a plain SQL sum of the same month, in the same run.

    python bench/statement.py [--spans 10000000] [--instances 20000] [--months 13] [--rounds 3] [--plans]

Makes a PostgreSQL of its own, fills it with copies that stay 7 days and arrive evenly over so many months, and asks for
the open month: of the fleet (at most 3 s wanted) and of one instance (at most 10 ms). The baseline joins and adds up as
the meaning reads (spans, copies, sets, stores; numeric arithmetic), for storage only; the statement also has traffic,
downloads, prices and its lines as objects. `--plans` asks once more with a network plan that covers the month, and with
one that half of it uses up. Beside the median stand the best round and the processor time of this process and its
backend (parallel workers not counted): on a machine that others use, trust these. The table's exclusion constraint and
foreign keys are dropped while filling.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from catalogue import catalogue

if TYPE_CHECKING:
    from django.db.backends.utils import CursorWrapper

SETTINGS = {"shared_buffers": "2GB", "max_wal_size": "8GB", "maintenance_work_mem": "512MB"}
END = datetime(2027, 4, 1, tzinfo=UTC)
BEGIN = datetime(2027, 3, 1, tzinfo=UTC)
RETENTION_DAYS = 7

FILL = """
SET session_replication_role = replica;
INSERT INTO backups_resourcegroup (name, created_at) SELECT 'group ' || n, now() FROM generate_series(1, 20) n;
INSERT INTO regions_store (uuid, region_id, role, url, options, sealed_credentials, capabilities, state, last_error,
                           attached_at)
SELECT gen_random_uuid(), region, 'primary', 'file:///' || region, '{{}}', '', '{{}}', 'ok', '', now()
  FROM unnest(ARRAY['cn-beijing', 'cn-shanghai', 'ap-southeast-1']) region;
INSERT INTO backups_instance ({instance}, code, name, group_id, region_id)
SELECT {instance_values}, 'rm-' || n, 'instance ' || n, 1 + n % 20, 'cn-beijing'
  FROM generate_series(1, {instances}) n, (SELECT * FROM backups_instance LIMIT 1) model;
"""
COPIES = """
INSERT INTO backups_copypolicy (instance_id, kind, source_region_id, destination_id, enabled, retention_days,
                                logs_enabled, route_version, terms_version, created_at, end_reason)
SELECT id, 'cross_region', 'cn-beijing', CASE id %% 2 WHEN 0 THEN 'cn-shanghai' ELSE 'ap-southeast-1' END, false, 7,
       false, 1, 1, now(), ''
  FROM backups_instance WHERE name LIKE 'instance %%';
CREATE TEMP TABLE place AS
    SELECT row_number() OVER (ORDER BY policy.id) - 1 AS number, policy.id AS policy, policy.instance_id AS instance,
           store.id AS store
      FROM backups_copypolicy policy JOIN regions_store store ON store.region_id = policy.destination_id;
CREATE TEMP TABLE made AS
    SELECT n AS id, place.policy, place.instance, place.store, 1000000 + (n::bigint * 7919) %% 50000000000 AS size,
           %(first)s::timestamptz + (n * 1.0 / %(spans)s) * (%(end)s::timestamptz - %(first)s::timestamptz) AS at
      FROM generate_series(1, %(spans)s) n JOIN place ON place.number = n %% %(instances)s
     ORDER BY 1;  -- as they arrive, so they lie
INSERT INTO backups_backupset (id, instance_id, database, kind, method, status, origin, finished_at, fork, set_guid,
                               family_guid, base_guid, parent_fork, is_copy_only, has_checksums,
                               is_encrypted, certificate_thumbprint, server, tool_version, size_bytes, run_id,
                               discovered_at)
SELECT id, instance, 'orders', 'full', 'physical', 'succeeded', 'found', at, '', '', '', '', '', false, true, false, '',
       '', '', size, '', at FROM made;
INSERT INTO backups_copy (id, set_id, policy_id, destination_store_id, state, origin, route_version, priority,
                          total_bytes, planned_at, due_at, fence, leased_by, attempts, failures, error, cancel_reason,
                          completed_at, expires_at, kept_for, expired_at, deleted_at, hidden_for, manifest_key,
                          manifest_etag, reference, verification, stored_bytes)
SELECT id, id, policy, store, CASE WHEN at + interval '7 days' < %(end)s THEN 'deleted' ELSE 'completed' END,
       'triggered', 1, 10, size, at, at, 1, '', 1, 0, '', '', at, at + interval '7 days', '', at + interval '7 days',
       at + interval '8 days', '0', 'manifest', '', '', '', size FROM made;
INSERT INTO backups_storagespan (copy_id, bytes, began_at, ended_at)
SELECT id, size, at, CASE WHEN at + interval '7 days' < %(end)s THEN at + interval '7 days' END FROM made;
DROP TABLE made;
"""
BASELINE = """
SELECT backup.instance_id, policy.source_region_id, store.region_id, sum(span.bytes::numeric
       * extract(epoch FROM date_trunc('second', least(coalesce(span.ended_at, copy.expires_at), %(end)s))
                          - date_trunc('second', greatest(span.began_at, %(begin)s))))
  FROM backups_storagespan span
  JOIN backups_copy copy ON copy.id = span.copy_id
  JOIN backups_backupset backup ON backup.id = copy.set_id
  JOIN backups_copypolicy policy ON policy.id = copy.policy_id
  JOIN regions_store store ON store.id = copy.destination_store_id
 WHERE span.began_at < %(end)s AND coalesce(span.ended_at, copy.expires_at) > %(begin)s
 GROUP BY 1, 2, 3
"""
FILLED = ("backups_backupset", "backups_copy", "backups_storagespan")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--spans", type=int, default=10_000_000)
    parser.add_argument("--instances", type=int, default=20_000)
    parser.add_argument("--months", type=int, default=13)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plans", action="store_true")
    given = parser.parse_args()
    with catalogue(SETTINGS):
        fill(given.spans, given.instances, given.months)
        report(given)


def fill(spans: int, instances: int, months: int) -> None:
    from django.db import connection

    began = time.monotonic()
    first = END - timedelta(days=30.4 * months)
    with connection.cursor() as cursor:
        cursor.execute(_fill_instances(instances))
        with _without_indexes(cursor):
            values = {"spans": spans, "instances": instances, "first": first, "end": END}
            cursor.execute(COPIES, values)
        cursor.execute("SET session_replication_role = origin")
        cursor.execute("VACUUM ANALYZE")
    print(
        f"{spans:,} spans of {instances:,} instances over {months} months; filled in {time.monotonic() - began:.0f} s"
    )


def _fill_instances(count: int) -> str:
    """One instance is made as the product does and the others are its likeness, whatever columns it has."""
    from django.db import connection

    from backups.models import Instance, ResourceGroup

    group = ResourceGroup.objects.create(name="Bench")
    Instance.objects.create(name="model", group=group, region_id="cn-beijing", engine="sqlserver")
    with connection.cursor() as cursor:
        columns = [column.name for column in connection.introspection.get_table_description(cursor, "backups_instance")]
    alike = [name for name in columns if name not in ("id", "code", "name", "group_id", "region_id")]
    values = ", ".join(f"model.{name}" for name in alike)
    return FILL.format(instance=", ".join(alike), instance_values=values, instances=count)


@contextmanager
def _without_indexes(cursor: CursorWrapper) -> Iterator[None]:
    """Fill bare tables and index them afterwards, as a restore of a dump does."""
    cursor.execute("ALTER TABLE backups_storagespan DROP CONSTRAINT spans_never_overlap")
    cursor.execute(
        "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = ANY(%s) AND indexname NOT LIKE '%%pkey'",
        [list(FILLED)],
    )
    indexes = [row for row in cursor.fetchall() if row[0] != "set_found_once"]
    for name, _ in indexes:
        cursor.execute(f'DROP INDEX "{name}"')
    yield
    for _, definition in indexes:
        cursor.execute(definition)


def report(given: argparse.Namespace) -> None:
    from django.db import connection, transaction

    from backups.models import StorageSpan
    from billing import closing, statements

    lines = len(statements.statement(BEGIN, END).lines)
    in_month = StorageSpan.objects.filter(began_at__lt=END).exclude(ended_at__lte=BEGIN).count()
    print(f"{in_month:,} of the spans lie in the month; {lines:,} lines; {given.rounds} rounds; ms, load {_load()}")
    print(f"{'':45}{'median':>12}{'best':>12}{'processor':>12}", flush=True)

    def baseline() -> None:
        with connection.cursor() as cursor:
            cursor.execute(BASELINE, {"begin": BEGIN, "end": END})
            cursor.fetchall()

    show("plain SQL, storage only, fleet", baseline, given.rounds)
    show_statements("statement of the month", given.rounds)
    if given.plans:
        report_plans(given.rounds)
    with transaction.atomic():
        closing._store(BEGIN, statements.reckon(BEGIN, END))
    show_statements("closed month", given.rounds)


def report_plans(rounds: int) -> None:
    """Ask under a plan that is enough, and under one of half of what the month takes from it."""
    from django.db import transaction

    from billing import plans, statements
    from billing.models import NetworkPlan

    def with_plan(name: str, gigabytes: int) -> int:
        with transaction.atomic():
            NetworkPlan.objects.create(gigabytes=gigabytes, bought_at=BEGIN, valid_until=plans.a_year_after(BEGIN))
            show_statements(name, rounds)
            taken = sum(statements.reckon(BEGIN, END).plan_uses.values())
            transaction.set_rollback(True)
        return taken // (plans.MILLION * 2**30)

    taken = with_plan("under a plan that is enough", 2_000_000_000)
    with_plan("under a plan that runs out", taken // 2)


def show_statements(name: str, rounds: int) -> None:
    from backups.models import Instance
    from billing import statements

    one = Instance.objects.filter(name="instance 7")
    show(f"{name}, fleet", lambda: statements.statement(BEGIN, END), rounds)
    show(f"{name}, one instance", lambda: statements.statement(BEGIN, END, one), 5 * rounds)


def show(name: str, ask: Callable[[], object], rounds: int) -> None:
    taken = []
    before = processor_seconds()
    for _ in range(rounds):
        began = time.perf_counter()
        ask()
        taken.append(time.perf_counter() - began)
    figures = (statistics.median(taken), min(taken), (processor_seconds() - before) / rounds)
    print(f"{name:45}" + "".join(f"{figure * 1000:>12,.1f}" for figure in figures), flush=True)


def processor_seconds() -> float:
    """Return what this process and its backend have used."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        backend = Path(f"/proc/{cursor.fetchone()[0]}/schedstat")
    return time.process_time() + int(backend.read_text().split()[0]) / 1e9


def _load() -> str:
    return f"{os.getloadavg()[0]:.1f} on {os.cpu_count()} cores"


if __name__ == "__main__":
    main()
