"""Statements that close, what was downloaded, network plans: all of it only ever added (R-4, I11, I16)."""

import django.contrib.postgres.fields
import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

APPEND_ONLY = [
    "billing_downloadcharge",
    "billing_networkplan",
    "billing_closedstatement",
    "billing_statementline",
    "billing_planuse",
]

# Lines come first and the row that closes their month last: once it is there, no line joins them.
WHOLE = """
CREATE FUNCTION billing_statement_is_whole() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM billing_closedstatement WHERE month = NEW.statement_id) THEN
        RAISE EXCEPTION 'a closed month never moves (R-4.5)' USING ERRCODE = '23514', CONSTRAINT = 'closed_month';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER billing_statement_is_whole BEFORE INSERT ON billing_statementline
    FOR EACH ROW EXECUTE FUNCTION billing_statement_is_whole();
CREATE TRIGGER billing_statement_is_whole BEFORE INSERT ON billing_planuse
    FOR EACH ROW EXECUTE FUNCTION billing_statement_is_whole();
"""

NOT_WHOLE = """
DROP TRIGGER billing_statement_is_whole ON billing_statementline;
DROP TRIGGER billing_statement_is_whole ON billing_planuse;
DROP FUNCTION billing_statement_is_whole();
"""

# What a month was reckoned from does not change behind its back: nothing of ours begins in a closed one.
BEHIND = """
CREATE FUNCTION billing_not_into_a_closed_month() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    moment timestamptz := (to_jsonb(NEW) ->> TG_ARGV[0])::timestamptz;
BEGIN
    IF moment < (SELECT (max(month) + interval '1 month') AT TIME ZONE 'UTC' FROM billing_closedstatement) THEN
        RAISE EXCEPTION 'that month is closed (R-4.5)' USING ERRCODE = '23514', CONSTRAINT = 'closed_month';
    END IF;
    RETURN NEW;
END $$;
"""
BEGINNINGS = {"billing_price": "valid_from", "billing_networkplan": "bought_at", "billing_downloadcharge": "at"}


def not_into_a_closed_month(table: str, column: str) -> migrations.RunSQL:
    return migrations.RunSQL(
        f"""
        CREATE TRIGGER billing_not_into_a_closed_month BEFORE INSERT ON {table}
            FOR EACH ROW EXECUTE FUNCTION billing_not_into_a_closed_month('{column}');
        """,
        f"DROP TRIGGER billing_not_into_a_closed_month ON {table};",
    )


def append_only(table: str) -> migrations.RunSQL:
    """As the events are (backups 0002), by the same function."""
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
    dependencies = [
        ("backups", "0009_recovery"),
        ("billing", "0002_prices_only_end"),
        ("regions", "0001_initial"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="ClosedStatement",
            fields=[
                ("month", models.DateField(primary_key=True, serialize=False)),
                ("closed_at", models.DateTimeField()),
                ("lines_count", models.PositiveIntegerField()),
                ("digest", models.CharField(max_length=64)),
            ],
            options={
                "ordering": ["-month"],
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("month__day", 1)), name="statement_of_a_month")
                ],
            },
        ),
        migrations.CreateModel(
            name="NetworkPlan",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("gigabytes", models.PositiveIntegerField(verbose_name="size (GB)")),
                (
                    "reference",
                    models.CharField(blank=True, help_text="Your order number, for your books.", max_length=100),
                ),
                ("bought_at", models.DateTimeField(editable=False)),
                ("valid_until", models.DateTimeField(editable=False)),
                (
                    "bought_by",
                    models.ForeignKey(
                        editable=False,
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "ordering": ["bought_at", "pk"],
            },
        ),
        migrations.CreateModel(
            name="PlanUse",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("prepaid_bytes", models.DecimalField(decimal_places=6, max_digits=30)),
                (
                    "plan",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="uses", to="billing.networkplan"
                    ),
                ),
                (
                    "statement",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="plan_uses",
                        to="billing.closedstatement",
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="StatementLine",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                (
                    "item_code",
                    models.CharField(
                        choices=[
                            ("DdrOssStorageSize", "Cross-region storage"),
                            ("NetworkOutDuplicationSize", "Cross-region network traffic"),
                            ("NetworkOutSize", "Download over the Internet"),
                        ],
                        max_length=30,
                    ),
                ),
                ("source", models.SlugField(db_index=False, verbose_name="source region")),
                ("destination", models.SlugField(blank=True, db_index=False, verbose_name="destination region")),
                ("quantity", models.DecimalField(decimal_places=0, max_digits=30)),
                ("charged", models.DecimalField(decimal_places=0, max_digits=30)),
                ("free_bytes", models.BigIntegerField(default=0)),
                ("offset_bytes", models.BigIntegerField(default=0)),
                ("resent_bytes", models.BigIntegerField(default=0)),
                (
                    "prices",
                    django.contrib.postgres.fields.ArrayField(
                        base_field=models.DecimalField(decimal_places=6, max_digits=12), default=list, size=None
                    ),
                ),
                ("amount", models.DecimalField(decimal_places=2, max_digits=20, null=True)),
                (
                    "group",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="backups.resourcegroup"
                    ),
                ),
                (
                    "instance",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="backups.instance"
                    ),
                ),
                (
                    "statement",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="lines", to="billing.closedstatement"
                    ),
                ),
            ],
        ),
        migrations.CreateModel(
            name="DownloadCharge",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("link", models.CharField(max_length=64, unique=True)),
                (
                    "address",
                    models.CharField(
                        choices=[("internet", "Internet"), ("internal", "Internal network")], max_length=8
                    ),
                ),
                ("bytes", models.BigIntegerField()),
                ("at", models.DateTimeField()),
                (
                    "copy",
                    models.ForeignKey(
                        null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="backups.copy"
                    ),
                ),
                (
                    "file",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="backups.backupfile"
                    ),
                ),
                (
                    "instance",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="download_charges",
                        to="backups.instance",
                    ),
                ),
                (
                    "region",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="regions.region"
                    ),
                ),
                (
                    "set",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="backups.backupset"
                    ),
                ),
            ],
            options={
                "indexes": [
                    models.Index(fields=["instance", "at"], name="download_of_instance"),
                    models.Index(condition=models.Q(("address", "internet")), fields=["at"], name="download_charged"),
                ],
                "constraints": [
                    models.CheckConstraint(condition=models.Q(("bytes__gte", 0)), name="download_not_negative"),
                    models.CheckConstraint(
                        condition=models.Q(("address__in", ["internet", "internal"])), name="download_address_known"
                    ),
                ],
            },
        ),
        migrations.AddConstraint(
            model_name="networkplan",
            constraint=models.CheckConstraint(condition=models.Q(("gigabytes__gt", 0)), name="plan_not_empty"),
        ),
        migrations.AddConstraint(
            model_name="networkplan",
            constraint=models.CheckConstraint(
                condition=models.Q(("valid_until__gt", models.F("bought_at"))), name="plan_runs_forward"
            ),
        ),
        migrations.AddConstraint(
            model_name="planuse",
            constraint=models.UniqueConstraint(fields=("statement", "plan"), name="plan_use_once"),
        ),
        migrations.AddConstraint(
            model_name="statementline",
            constraint=models.UniqueConstraint(
                fields=("statement", "instance", "item_code", "source", "destination"), name="line_once"
            ),
        ),
        migrations.RunSQL(WHOLE, NOT_WHOLE),
        migrations.RunSQL(BEHIND, "DROP FUNCTION billing_not_into_a_closed_month();"),
        *[not_into_a_closed_month(table, column) for table, column in BEGINNINGS.items()],
        *[append_only(table) for table in APPEND_ONLY],
    ]
