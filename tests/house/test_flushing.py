"""Tests that commit leave no trace, history included, and take nothing away that the migrations wrote."""

from __future__ import annotations

import pytest
from django.contrib.auth import get_user_model
from django.db import connection

from regions.models import Region
from tests.flushing import _flush


@pytest.mark.django_db(transaction=True)
def test_what_was_written_goes_and_what_was_migrated_stays() -> None:
    get_user_model().objects.create_user("passing")
    regions = Region.objects.count()
    _flush([])
    assert not get_user_model().objects.exists()
    assert Region.objects.count() == regions > 0


@pytest.mark.django_db(transaction=True)
def test_history_that_refuses_every_delete_is_emptied_too() -> None:
    with connection.cursor() as cursor:
        cursor.execute("CREATE TABLE stone (id int)")
        cursor.execute(
            "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'append-only'; END $$"
        )
        cursor.execute("CREATE TRIGGER stays BEFORE DELETE OR UPDATE ON stone FOR EACH ROW EXECUTE FUNCTION refuse()")
        try:
            cursor.execute("INSERT INTO stone VALUES (1)")
            _flush([])
            cursor.execute("SELECT count(*) FROM stone")
            assert cursor.fetchone() == (0,)
        finally:
            cursor.execute("DROP TABLE stone")
            cursor.execute("DROP FUNCTION refuse")
