"""What a page of copies costs at the least: one statement, plain dicts, JSON; nobody is asked who they are."""

from __future__ import annotations

import json

from django.contrib.auth.decorators import login_not_required
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.urls import path

from console.urls import urlpatterns as console_patterns

NAMES = (
    *("CrossBackupId", "CrossBackupRegion", "CrossBackupSetFile", "CrossBackupSetLocation", "CrossBackupSetSize"),
    *("CrossBackupDownloadLink", "BackupStartTime", "BackupEndTime", "ConsistentTime", "BackupType", "BackupMethod"),
    *("BackupSetStatus", "BackupSetScale", "Category", "Engine", "EngineVersion", "InstanceId", "RestoreRegions"),
)
COPIES = """
SELECT copy.id, store.region_id, of.code || '_data_' || found.id || '_full.bak', 'OSS', copy.stored_bytes, '',
       to_char(found.started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
       to_char(found.finished_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
       to_char(found.finished_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS"Z"'),
       found.kind, found.method, copy.state, 1, of.edition, of.engine, of.engine_version, of.id, store.region_id
  FROM backups_copy copy
  JOIN backups_backupset found ON found.id = copy.set_id
  JOIN backups_instance of ON of.id = found.instance_id
  JOIN regions_store store ON store.id = copy.destination_store_id
 WHERE of.name = 'busy' AND found.kind <> 'log'
 ORDER BY found.finished_at DESC, copy.id DESC
 LIMIT 30
"""


@login_not_required
def floor(request: HttpRequest) -> HttpResponse:
    with connection.cursor() as cursor:
        cursor.execute(COPIES)
        items = [dict(zip(NAMES, row, strict=True)) for row in cursor.fetchall()]
    return HttpResponse(json.dumps({"Items": {"Item": items}}), content_type="application/json")


urlpatterns = [path("floor", floor), *console_patterns]
