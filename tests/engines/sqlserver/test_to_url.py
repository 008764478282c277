"""Backups that the server (the simulation) writes into a bucket: its key as a credential, its files, what became of
them."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from backups.default_backups import buckets
from backups.engines.facts import Attempt, Bucket, Connection, DatabaseOrder, FullNeeded, Kind, SharedBackup
from backups.engines.sqlserver import rights, scin, to_url
from backups.engines.sqlserver.connecting import session
from backups.engines.sqlserver.taking import Plan, statement_of
from backups.engines.sqlserver.to_url import find_written, write_database
from demo.tds import SimulatedMachine
from regions.refusals import Refusal
from regions.storage import PartReceipt, Storage, open_storage
from tests.engines.sqlserver.conftest import until
from tests.regions.conftest import folder_store

ADDRESS = "s3://store.example:9000/backups"
ODD = "Sa]l'es 100% ☂"
KEY, SECRET = "AKIA", "it's 100% ]secret"


@dataclass
class Place:
    """A folder that the simulated server takes for a bucket."""

    machine: SimulatedMachine
    connection: Connection
    storage: Storage
    bucket: Bucket
    placed: list[tuple[str, ...]] = field(default_factory=list)
    number: int = 0

    def order(self, kind: Kind = Kind.FULL, database: str = "Orders", **more: object) -> DatabaseOrder:
        self.number += 1
        attempt = Attempt("rm-1", 7, self.number, datetime.now(UTC).replace(microsecond=0))
        return DatabaseOrder(database, kind, attempt=attempt, **more)

    def place(self, stripes: int) -> tuple[str, ...]:
        self.placed.append(tuple(f"{self.number}.{one}of{stripes}.bak" for one in range(1, stripes + 1)))
        return self.placed[-1]

    def write(self, order: DatabaseOrder) -> SharedBackup:
        return write_database(self.connection, order, self.bucket, place=self.place)

    def find(self, order: DatabaseOrder, keys: tuple[str, ...] = ()) -> SharedBackup | None:
        return find_written(
            lambda: self.connection, order, keys or self.placed[-1], self.bucket, end_uploads=self.end_uploads
        )

    def end_uploads(self) -> None:
        for upload in list(self.storage.list_uploads("")):
            self.storage.abort_upload(upload.key, upload.upload_id)

    def put(self, key: str, body: bytes) -> None:
        upload = self.storage.create_upload(key)
        part: PartReceipt = self.storage.put_part(key, upload, 1, 0, len(body), io.BytesIO(body))
        self.storage.complete_upload(key, upload, [part])


@pytest.fixture
def place(machine: SimulatedMachine, connection: Connection, tmp_path: Path) -> Place:
    storage = open_storage(folder_store(tmp_path / "bucket"))
    machine.version = (16, 0, 1000)
    machine.database("Orders").pages = 8
    machine.bucket(ADDRESS, storage, KEY, SECRET)
    bucket = Bucket(ADDRESS, KEY, SECRET, look=lambda key: buckets._look(storage, key))
    return Place(machine, connection, storage, bucket)


@pytest.fixture
def readable(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if files of 2022 had been seen: their headers are read."""
    monkeypatch.setitem(scin._FIXED_PARTS, (16, 0), scin._FIXED_PARTS[15, 0])


def test_full_log_and_differential_are_a_chain(place: Place, readable: None) -> None:
    full = place.write(place.order())
    place.machine.database("Orders").work()
    log = place.write(place.order(Kind.LOG))
    differential = place.write(place.order(Kind.DIFFERENTIAL))
    assert log.facts.first_position <= full.facts.last_position < log.facts.last_position
    assert differential.facts.base_guid == full.facts.set_guid
    for one, row in zip((full, log, differential), place.machine.history, strict=True):
        assert one.facts.set_guid == str(row.backup.set_guid) and one.facts.has_checksums and one.facts.compressed
        assert row.families[0].device == f"{ADDRESS}/{one.files[0]}"


def test_of_a_version_whose_files_were_never_seen_msdb_tells(place: Place) -> None:
    full = place.write(place.order())
    assert full.facts.set_guid == str(place.machine.history[-1].backup.set_guid)
    assert full.facts.software_version.startswith("16.")


def test_odd_names_are_only_names(place: Place) -> None:
    place.machine.add(ODD, pages=4)
    assert place.write(place.order(database=ODD)).facts.database == ODD


def test_the_statement_names_parts_region_and_every_file(place: Place) -> None:
    bucket = replace(place.bucket, region="eu-central-1", prefix="a/")
    plan: Plan = to_url._planned(place.order(Kind.DIFFERENTIAL), ("1", "2"), bucket)
    assert statement_of(plan) == (
        "BACKUP DATABASE [Orders] TO URL = %s, URL = %s WITH FORMAT, CHECKSUM, COMPRESSION, STATS = 5, DIFFERENTIAL, "
        'MAXTRANSFERSIZE = 20971520, BACKUP_OPTIONS = \'{"s3": {"region": "eu-central-1"}}\', NAME = %s'
    )
    assert bucket.device("1") == f"{ADDRESS}/a/1"


def test_a_region_is_said_to_the_server(place: Place) -> None:
    place.bucket = replace(place.bucket, region="cn-north-1")
    assert place.write(place.order()).facts.kind == "full"


@pytest.mark.parametrize(
    ("kind", "data_bytes", "files"),
    [
        (Kind.FULL, None, 1),
        (Kind.FULL, 1, 1),
        (Kind.FULL, to_url.FILE_BYTES, 1),
        (Kind.FULL, to_url.FILE_BYTES + 1, 2),
        (Kind.DIFFERENTIAL, 10 * to_url.FILE_BYTES, 10),
        (Kind.FULL, 1000 * to_url.FILE_BYTES, 64),
        (Kind.LOG, 10 * to_url.FILE_BYTES, 1),
    ],
)
def test_a_file_holds_at_most_ten_thousand_parts(kind: Kind, data_bytes: int | None, files: int) -> None:
    assert to_url._stripes(DatabaseOrder("Orders", kind), data_bytes) == files


def test_stripes_are_one_set(place: Place, readable: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(to_url, "FILE_BYTES", 30_000)
    full = place.write(place.order())
    assert full.files == ("1.1of3.bak", "1.2of3.bak", "1.3of3.bak") and full.facts.family_count == 3
    order = replace(place.order(), attempt=Attempt("rm-1", 7, 1, datetime.now(UTC)))
    assert place.find(order).facts == replace(full.facts, family_count=3)
    place.storage.delete("1.2of3.bak")
    assert place.find(order) is None, "of a full that is not whole nothing is kept"


# ---- the credential


def test_the_key_becomes_a_credential_and_a_new_one_takes_its_place(place: Place) -> None:
    place.write(place.order())
    assert place.machine.credentials == {ADDRESS: ("S3 Access Key", f"{KEY}:{SECRET}")}
    place.machine.credentials[ADDRESS] = ("S3 Access Key", "old:one")
    place.write(place.order())
    assert place.machine.credentials == {ADDRESS: ("S3 Access Key", f"{KEY}:{SECRET}")}


def test_one_that_somebody_created_meanwhile_is_changed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    place.machine.credentials[ADDRESS] = ("S3 Access Key", "old:one")
    monkeypatch.setattr(to_url, "CREDENTIAL", to_url.CREDENTIAL + " AND 1 = 0")
    with session(place.connection) as opened:
        to_url.keep_credential(opened, place.bucket)
    assert place.machine.credentials[ADDRESS] == ("S3 Access Key", f"{KEY}:{SECRET}")


def test_the_script_grants_what_a_credential_takes_from_2022_on() -> None:
    grant = "GRANT ALTER ANY CREDENTIAL TO [farshore];"
    assert grant in rights.script_for("farshore", ["Orders"], major=16)
    assert grant not in rights.script_for("farshore", ["Orders"], major=15)


def _no_credentials(machine: SimulatedMachine) -> None:
    machine.accounts["farshore"].keeps_credentials = False


def _blind(machine: SimulatedMachine) -> None:
    machine.accounts["farshore"].sees_state = False


def _express(machine: SimulatedMachine) -> None:
    machine.edition = "Express Edition (64-bit)"


def _old(machine: SimulatedMachine) -> None:
    machine.version = (15, 0, 4430)


@pytest.mark.parametrize(
    ("spoil", "code"),
    [
        (_no_credentials, "CredentialRefused"),
        (_blind, "MayNotSeeState"),
        (_express, "NoBackupToUrl"),
        (_old, "NoBackupToUrl"),
    ],
)
def test_what_is_refused_is_refused_before_a_key_is_placed(
    place: Place, spoil: Callable[[SimulatedMachine], None], code: str
) -> None:
    spoil(place.machine)
    with pytest.raises(Refusal) as refused:
        place.write(place.order())
    assert refused.value.code == code and refused.value.remedy
    assert SECRET not in str(refused.value) and not place.placed and not place.machine.history


def test_an_address_that_is_too_long_is_refused_before_the_server_begins(place: Place) -> None:
    place.bucket = replace(place.bucket, prefix="p" * 250 + "/")
    with pytest.raises(Refusal) as refused:
        place.write(place.order())
    assert refused.value.code == "AddressTooLong" and not place.machine.history


def test_a_differential_without_a_full_needs_one(place: Place) -> None:
    with pytest.raises(FullNeeded):
        place.write(place.order(Kind.DIFFERENTIAL))


# ---- what an attempt came to


def test_of_an_attempt_that_never_began_nothing_is_left(place: Place) -> None:
    assert place.find(place.order(), ("nothing.bak",)) is None


@pytest.mark.parametrize("kind", [Kind.FULL, Kind.LOG])
def test_what_was_ended_is_found_by_msdb_or_by_its_own_header(place: Place, kind: Kind, monkeypatch: object) -> None:
    place.write(place.order())
    order = place.order(kind)
    written = place.write(order)
    assert place.find(order) == replace(written, left_by=order.attempt)
    place.machine.history.clear()
    monkeypatch.setitem(scin._FIXED_PARTS, (16, 0), scin._FIXED_PARTS[15, 0])
    found = place.find(order)
    assert found.facts.set_guid == written.facts.set_guid and found.left_by == order.attempt


def test_a_log_that_nobody_can_read_or_name_is_left_for_a_person(place: Place) -> None:
    place.write(place.order())
    order = place.order(Kind.LOG)
    place.write(order)
    place.machine.history.clear()
    with pytest.raises(Refusal) as refused:
        place.find(order)
    assert refused.value.code == "NotWritten"
    assert place.find(replace(order, kind=Kind.FULL)) is None, "a full can be taken again"


def test_a_log_that_msdb_names_and_the_store_does_not_show_holds_the_next_ones_up(place: Place) -> None:
    place.write(place.order())
    order = place.order(Kind.LOG)
    place.write(order)
    place.storage.delete(place.placed[-1][0])
    with pytest.raises(Refusal, match="it is not there"):
        place.find(order)
    old = replace(order.attempt, began_at=order.attempt.began_at - timedelta(hours=2))
    row = place.machine.history[-1]
    renamed = replace(row.backup, name=row.backup.name.replace(str(order.attempt), str(old)))
    place.machine.history[-1] = replace(row, backup=renamed)
    assert place.find(replace(order, attempt=old)) is None, "then it is lost, and a gap"


def test_another_set_under_the_key_is_told(place: Place, readable: None) -> None:
    place.write(place.order())
    [first] = place.placed[-1]
    with place.storage.open_range(first, 0, place.storage.head(first).size) as stream:
        body = bytearray(place.storage.head(first).size)
        stream.readinto(memoryview(body))
    order = place.order(database="Another")
    place.put("other.bak", bytes(body))
    with pytest.raises(Refusal) as refused:
        place.find(order, ("other.bak",))
    assert refused.value.code == "OtherDatabase"


def test_what_the_server_still_does_for_it_is_ended_and_its_upload_too(place: Place) -> None:
    place.machine.database("Orders").pages, place.machine.pace, place.machine.is_deaf = 64, 20_000, True
    order = place.order()
    writing = threading.Thread(target=_swallow, args=(lambda: place.write(order),), daemon=True)
    writing.start()
    until(lambda: any(one.request for one in list(place.machine.sessions.values())))
    another = replace(order, attempt=replace(order.attempt, number=99))
    assert place.find(another, ("another.bak",)) is None
    assert any(one.request for one in list(place.machine.sessions.values())), "another attempt's is left alone"
    assert place.find(order) is None
    writing.join(20)
    assert not list(place.storage.list_uploads("")) and not place.machine.history


def _swallow(call: Callable[[], object]) -> None:
    with pytest.raises(Refusal):
        call()
