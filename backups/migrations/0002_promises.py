"""Promises the tables keep by themselves: append-only history, no span twice, no policy enabled past the rules."""

from django.contrib.postgres.operations import BtreeGistExtension
from django.db import migrations

APPEND_ONLY = [
    "backups_event",
    "backups_seal",
    "backups_acceptance",
    "backups_acceptedinstance",
    "backups_agreementtext",
]

REFUSE = """
CREATE FUNCTION backups_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'rows of % are only ever added (I16)', TG_TABLE_NAME USING ERRCODE = '23514',
        CONSTRAINT = 'append_only';
END $$;
"""

GUARD = """
CREATE FUNCTION backups_policy_guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    server backups_instance%ROWTYPE;
    source regions_region%ROWTYPE;
    target regions_region%ROWTYPE;
    accepted backups_acceptance%ROWTYPE;
BEGIN
    SELECT * INTO server FROM backups_instance WHERE id = NEW.instance_id;
    SELECT * INTO source FROM regions_region WHERE id = NEW.source_region_id;
    SELECT * INTO target FROM regions_region WHERE id = NEW.destination_id;
    IF NEW.source_region_id <> server.region_id THEN
        RAISE EXCEPTION 'the source region is the instance''s own' USING ERRCODE = '23514',
            CONSTRAINT = 'policy_source_is_the_instances';
    END IF;
    IF server.released_at IS NOT NULL THEN
        RAISE EXCEPTION 'a released instance is not enabled (R-14.2)' USING ERRCODE = '23514',
            CONSTRAINT = 'policy_instance_not_released';
    END IF;
    IF server.family = 'shared' OR server.billing_method = 'serverless'
       OR (server.backup_method = 'snapshot' AND server.edition <> 'cluster') THEN
        RAISE EXCEPTION 'the instance does not qualify (R-3, R-7.1)' USING ERRCODE = '23514',
            CONSTRAINT = 'policy_instance_qualifies';
    END IF;
    IF NEW.kind <> 'cross_region' THEN
        RETURN NEW;
    END IF;
    IF (source.scope = 'finance') <> (target.scope = 'finance') THEN
        RAISE EXCEPTION 'Finance Cloud is a closed group (R-10.2)' USING ERRCODE = '23514',
            CONSTRAINT = 'policy_route_allowed';
    END IF;
    SELECT a.* INTO accepted FROM backups_acceptance a WHERE a.id = NEW.acceptance_id
        AND a.text_version = (SELECT max(version) FROM backups_agreementtext)
        AND a.source_group = CASE source.scope WHEN 'outside' THEN source.country ELSE source.scope END
        AND a.destination_group = CASE target.scope WHEN 'outside' THEN target.country ELSE target.scope END
        AND (a.resource_group_id = server.group_id OR (
            a.destination_region_id = NEW.destination_id AND EXISTS (
                SELECT 1 FROM backups_acceptedinstance i WHERE i.acceptance_id = a.id AND i.instance_id = server.id)));
    IF NOT FOUND THEN
        RAISE EXCEPTION 'no acceptance in force covers this instance and route (I12)' USING ERRCODE = '23514',
            CONSTRAINT = 'policy_agreement_in_force';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER backups_policy_guard_insert BEFORE INSERT ON backups_copypolicy
    FOR EACH ROW WHEN (NEW.enabled) EXECUTE FUNCTION backups_policy_guard();
CREATE TRIGGER backups_policy_guard_update BEFORE UPDATE ON backups_copypolicy FOR EACH ROW WHEN (NEW.enabled AND (
    NOT OLD.enabled OR NEW.destination_id <> OLD.destination_id OR NEW.source_region_id <> OLD.source_region_id
    OR NEW.instance_id <> OLD.instance_id OR NEW.acceptance_id IS DISTINCT FROM OLD.acceptance_id
)) EXECUTE FUNCTION backups_policy_guard();
"""

SNAPSHOT = """
CREATE FUNCTION backups_snapshot_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.edition <> 'cluster' AND EXISTS (
        SELECT 1 FROM backups_copypolicy p WHERE p.instance_id = NEW.id AND p.enabled AND p.kind = 'cross_region') THEN
        RAISE EXCEPTION 'the method cannot become snapshot while cross-region backup is on (R-7.1)'
            USING ERRCODE = '23514', CONSTRAINT = 'snapshot_only_on_cluster';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER backups_snapshot_guard BEFORE UPDATE ON backups_instance
    FOR EACH ROW WHEN (NEW.backup_method = 'snapshot' AND OLD.backup_method <> 'snapshot')
    EXECUTE FUNCTION backups_snapshot_guard();
"""

SPANS = """
ALTER TABLE backups_storagespan ADD CONSTRAINT spans_never_overlap
    EXCLUDE USING gist (copy_id WITH =, tstzrange(began_at, ended_at) WITH &&);
"""


def append_only(table: str) -> migrations.RunSQL:
    return migrations.RunSQL(
        f"""
        CREATE TRIGGER append_only_rows BEFORE UPDATE OR DELETE ON {table}
            FOR EACH ROW EXECUTE FUNCTION backups_append_only();
        CREATE TRIGGER append_only_table BEFORE TRUNCATE ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION backups_append_only();
        """,
        f"DROP TRIGGER append_only_rows ON {table}; DROP TRIGGER append_only_table ON {table};",
    )


class Migration(migrations.Migration):
    dependencies = [("backups", "0001_initial"), ("regions", "0001_initial")]

    operations = [
        BtreeGistExtension(),
        migrations.RunSQL(SPANS, "ALTER TABLE backups_storagespan DROP CONSTRAINT spans_never_overlap;"),
        migrations.RunSQL(REFUSE, "DROP FUNCTION backups_append_only();"),
        *[append_only(table) for table in APPEND_ONLY],
        migrations.RunSQL(
            GUARD,
            """
            DROP TRIGGER backups_policy_guard_insert ON backups_copypolicy;
            DROP TRIGGER backups_policy_guard_update ON backups_copypolicy;
            DROP FUNCTION backups_policy_guard();
            """,
        ),
        migrations.RunSQL(
            SNAPSHOT,
            "DROP TRIGGER backups_snapshot_guard ON backups_instance; DROP FUNCTION backups_snapshot_guard();",
        ),
    ]
