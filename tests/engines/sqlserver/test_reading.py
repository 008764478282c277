"""Backup files are read from a distance and tell exactly what was written into them."""

from __future__ import annotations

import random
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from backups.engines.facts import Kind, Method, SetFacts
from backups.engines.sqlserver import inspect
from demo import mtf
from demo.mtf_compressed import compressed_file, encrypted_file
from tests.engines.sqlserver.distant import VERSIONS, Distant, backups, inspected, media, refusal_code

MIDNIGHT = datetime(2026, 11, 2, tzinfo=UTC)


def text_of(guid) -> str:
    return str(guid) if guid.int else ""


def assert_tells(facts: SetFacts, backup: mtf.Backup) -> None:
    """Compare everything the header holds with what was written."""
    assert facts.database == backup.database
    assert facts.server == backup.server
    assert facts.kind is backup.kind
    assert (facts.started_at, facts.finished_at) == (backup.started_at, backup.finished_at)
    assert (facts.first_position, facts.last_position) == (backup.first, backup.last)
    assert (facts.checkpoint_position, facts.base_position) == (backup.checkpoint, backup.base or None)
    guids = (facts.set_guid, facts.family_guid, facts.fork, facts.base_guid)
    assert guids == tuple(map(text_of, (backup.set_guid, backup.family_guid, backup.fork_guid, backup.base_guid)))
    assert facts.is_copy_only == backup.copy_only
    assert facts.has_checksums == backup.checksum
    assert facts.software_version == ".".join(map(str, backup.version))
    assert facts.size_bytes == mtf.size_of(backup)
    assert [file.logical_name for file in facts.database_files][:-1] == [file.logical for file in backup.files]


def assert_read_back(backup: mtf.Backup, at: mtf.Media) -> None:
    file = mtf.file_of(backup, media=at)
    inspection = inspected(file)
    assert inspection.refusal is None
    (facts,) = inspection.sets
    assert_tells(facts, backup)
    assert (facts.media_set_guid, facts.family_sequence, facts.family_count) == (str(at.guid), at.sequence, at.families)
    assert facts.offset + facts.length == len(file)


@settings(max_examples=120, deadline=None)
@given(st.data())
def test_whatever_is_written_is_read_back(data):
    backup = data.draw(backups())
    assert_read_back(backup, data.draw(media(backup)))


@pytest.mark.soak
@settings(max_examples=5000, deadline=None)
@given(st.data())
def test_whatever_is_written_is_read_back_thousands_of_times(data):
    backup = data.draw(backups())
    assert_read_back(backup, data.draw(media(backup)))


@settings(max_examples=25, deadline=None)
@given(backups().filter(lambda backup: backup.version[0] >= 13))
def test_a_compressed_backup_tells_the_same(backup):
    inspection = inspected(compressed_file(backup))
    assert inspection.refusal is None
    (facts,) = inspection.sets
    assert_tells(facts, backup)
    assert facts.compressed


@pytest.mark.parametrize("block", [512, 4096])
def test_a_large_file_takes_two_reads_of_64_kib(block):
    distant = Distant(mtf.write_full(pages=4000, block=block))
    assert distant.inspect().sets
    assert distant.reads == 2
    assert distant.bytes_read == 2 * 65536


def test_a_large_compressed_file_takes_two_reads_too():
    distant = Distant(compressed_file(mtf.full(pages=80)))
    assert distant.inspect().sets
    assert distant.reads == 2


def test_each_further_data_file_costs_one_small_read():
    files = tuple(mtf.DataFile(f"part{n}", f"D:\\part{n}.ndf", 100, n) for n in range(1, 9))
    distant = Distant(mtf.file_of(mtf.full(files=files)))
    assert distant.inspect().sets
    assert distant.reads <= 2 + len(files)
    assert distant.bytes_read <= 2 * 65536 + len(files) * 16384


@pytest.mark.parametrize(("block", "start"), [(512, 0x600), (4096, 0x2000)])
def test_the_set_begins_where_real_servers_put_it(block, start):
    (facts,) = inspected(mtf.write_full(block=block)).sets
    assert facts.offset == start


def test_appended_sets_are_read_one_by_one():
    taken = mtf.chain(logs=12, differentials=2, pages=30)
    file = mtf.file_of(*taken)
    distant = Distant(file)
    sets = distant.inspect().sets
    assert [facts.position for facts in sets] == list(range(1, 16))
    for facts, backup in zip(sets, taken, strict=True):
        assert_tells(facts, backup)
    assert all(one.offset + one.length == other.offset for one, other in zip(sets, sets[1:], strict=False))
    assert sets[-1].offset + sets[-1].length == len(file)
    assert distant.reads <= 2 + 2 * len(sets)


def test_a_week_of_small_logs_in_one_file_takes_few_reads():
    distant = Distant(mtf.file_of(*mtf.chain(logs=672, differentials=0, pages=300)))
    assert len(distant.inspect().sets) == 673
    assert distant.reads < 60


def test_large_logs_in_one_file_are_stepped_over_and_not_read():
    base = mtf.full(pages=1000)
    at = [base.started_at + timedelta(hours=n) for n in range(100)]
    logs = [mtf.log(base, first=base.last, last=base.last, started_at=when, log_bytes=500_000) for when in at]
    distant = Distant(mtf.file_of(base, *logs))
    assert len(distant.inspect().sets) == 101
    assert distant.reads <= 2 + 2 * 101
    assert distant.bytes_read < len(distant.data) / 10


def test_an_appended_file_begins_with_what_it_held_before():
    taken = mtf.chain(logs=2, differentials=0)
    shorter = mtf.file_of(*taken[:2], media=mtf.media_of(taken[0]))
    longer = mtf.file_of(*taken, media=mtf.media_of(taken[0]))
    assert longer.startswith(shorter)
    assert inspected(longer).sets[:2] == inspected(shorter).sets


def test_a_file_overwritten_the_next_night_tells_only_of_the_new_set():
    nights = [mtf.full(started_at=MIDNIGHT + timedelta(days=n), first=mtf.lsn(40 + n)) for n in range(2)]
    first, second = (inspected(mtf.file_of(night)).sets for night in nights)
    assert len(first) == len(second) == 1
    assert first[0].set_guid != second[0].set_guid
    assert first[0].family_guid == second[0].family_guid


def test_a_file_in_the_middle_of_being_overwritten_is_refused():
    old = mtf.write_full(started_at=MIDNIGHT, pages=100)
    new = mtf.write_full(started_at=MIDNIGHT + timedelta(days=1), pages=100)
    assert len(old) == len(new)
    codes = {refusal_code(new[:done] + old[done:]) for done in range(2048, len(new) - 2048, 8192)}
    assert codes == {"InconsistentHeader"}


def test_stripes_name_their_place_in_the_media_set():
    sets = [inspected(file).sets[0] for file in mtf.stripes_of(mtf.full(pages=100), 3)]
    assert [(facts.family_sequence, facts.family_count) for facts in sets] == [(1, 3), (2, 3), (3, 3)]
    assert len({facts.media_set_guid for facts in sets}) == len({facts.set_guid for facts in sets}) == 1


def test_local_times_become_utc():
    (facts,) = inspected(mtf.write_full(started_at=MIDNIGHT, time_zone=-14)).sets
    assert facts.started_at == MIDNIGHT


def test_a_backup_across_the_end_of_summer_time_does_not_end_before_it_began():
    backup = mtf.full(started_at=MIDNIGHT, seconds=600)
    shown = replace(backup, finished_at=backup.finished_at - timedelta(hours=1))
    (facts,) = inspected(mtf.file_of(shown)).sets
    assert facts.finished_at == backup.finished_at


def test_the_first_log_of_a_chain_says_that_it_begins_it():
    base = mtf.full()
    first = mtf.log(base, first=base.chain_start, last=base.last, started_at=MIDNIGHT)
    later = mtf.log(base, first=base.last, last=base.last, started_at=MIDNIGHT)
    assert [inspected(mtf.file_of(taken)).sets[0].begins_log_chain for taken in (first, later)] == [True, False]


def test_a_snapshot_backup_is_called_one():
    (facts,) = inspected(mtf.write_full(extra_flags=2)).sets
    assert facts.method is Method.SNAPSHOT


def test_the_files_of_the_database_are_listed_with_their_paths():
    (facts,) = inspected(mtf.write_full("Orders", pages=10)).sets
    data, log = facts.database_files
    assert (data.logical_name, data.physical_path, data.kind) == ("Orders", "D:\\data\\Orders.mdf", "data")
    assert (log.logical_name, log.kind, log.file_id) == ("Orders_log", "log", 2)


@pytest.mark.parametrize("version", [(8, 0, 2039), (10, 0, 1600), (11, 0, 3000), (16, 0, 1000), (17, 0, 700)])
def test_a_version_never_seen_is_refused_and_not_guessed(version):
    assert refusal_code(mtf.write_full(version=version)) == "UnknownVersion"
    assert refusal_code(compressed_file(mtf.full(version=version))) == "UnknownVersion"


@pytest.mark.parametrize("version", VERSIONS)
def test_every_known_version_is_read(version):
    assert inspected(mtf.write_full(version=version)).sets[0].kind is Kind.FULL


def test_a_backup_the_server_marked_damaged_is_refused():
    assert refusal_code(mtf.write_full(extra_flags=32)) == "MarkedDamaged"


@pytest.mark.parametrize("zone", [127, -57, 57])
def test_times_without_a_zone_are_refused(zone):
    assert refusal_code(mtf.file_of(replace(mtf.full(), time_zone=0))) == ""
    file = bytearray(mtf.write_full())
    file[0x600 + 95] = zone & 0xFF
    assert refusal_code(bytes(file)) == "UnknownTimeZone"


def test_an_encrypted_file_says_that_msdb_must_name_it():
    refusal = inspected(encrypted_file()).refusal
    assert refusal.code == "EncryptedHeader"
    assert "msdb" in refusal.remedy


@pytest.mark.parametrize(
    "content",
    [b"PGDMP\x01\x0e\x00" + b"x" * 5000, b"-- MySQL dump 10.13\n" * 400, b"SQLite format 3\0" * 100, b"PK\3\4", b"a"],
)
def test_what_other_programs_call_a_bak_is_not_ours(content):
    assert refusal_code(content) == "NotASqlServerBackup"


@pytest.mark.parametrize("content", [b"", b"TA", b"TAPE", b"MSSQLBAK", bytes(700), bytes(200_000)])
def test_a_file_hardly_begun_is_not_finished(content):
    assert refusal_code(content) == "Truncated"


def test_a_store_that_fails_is_not_a_file_that_is_wrong():
    def broken(offset: int, length: int) -> bytes:
        raise OSError("no route to host")

    with pytest.raises(OSError):
        inspect(broken, 10_000)


def test_reading_is_cheap():
    """The figure is printed (`-s`), not asserted: machines differ."""
    kinds = {
        "full": mtf.write_full(pages=2000),
        "15 sets": mtf.file_of(*mtf.chain(logs=12, differentials=2)),
        "compressed": compressed_file(mtf.full(pages=100)),
        "noise": b"TAPE" + random.Random(1).randbytes(200_000),
    }
    for kind, file in kinds.items():
        begun = time.process_time()
        for _ in range(20):
            inspected(file)
        print(f"inspect, {kind}: {(time.process_time() - begun) * 50:.2f} ms of CPU")
