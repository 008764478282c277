from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import pytest

from backups.engines.mariadb.mbstream import BackupReader, Story, told_pairs
from backups.engines.mariadb.unpacking import unpack_full
from backups.engines.streaming import ArchiveDamaged
from regions.refusals import Refusal

CHECKPOINTS = b"backup_type = full-backuped\nto_lsn = 44894\n"
SETTINGS = b"[mysqld]\ninnodb_page_size=16384\ninnodb_data_file_path=ibdata1:12M:autoextend\n"


def chunk(path: str, content: bytes, offset: int = 0) -> bytes:
    name = path.encode()
    head = b"XBSTCK01\0P" + struct.pack("<I", len(name)) + name
    return head + struct.pack("<QQI", len(content), offset, zlib.crc32(content)) + content


def ended(path: str) -> bytes:
    return b"XBSTCK01\0E" + struct.pack("<I", len(path)) + path.encode()


def file(path: str, content: bytes) -> bytes:
    half = len(content) // 2
    return chunk(path, content[:half]) + chunk(path, content[half:], half) + ended(path)


def backup(*more: bytes, settings: bytes = SETTINGS) -> bytes:
    files = {
        "ibdata1": os.urandom(5000),
        "./shop/orders.ibd": b"rows" * 99,
        "xtrabackup_binlog_info": b"mysql-bin.000002\t557\t0-77-7,1-78-9\n",
        "backup-my.cnf": settings,
        "xtrabackup_checkpoints": CHECKPOINTS,
        "xtrabackup_info": b"uuid = 0de9faa6\n",
    }
    return b"".join([*more, *(file(*each) for each in files.items())])


def read(stream: bytes, step: int = 1 << 20) -> Story:
    reader = BackupReader()
    for at in range(0, len(stream), step):
        reader.feed(memoryview(stream)[at : at + step])
    assert reader.size == len(stream)
    return reader.story()


@pytest.mark.parametrize("step", [1, 7, 4096, 1 << 20])
def test_a_whole_stream_tells_its_place_however_it_is_cut(step: int) -> None:
    story = read(backup(), step)
    assert story.place == ("mysql-bin.000002", 557)
    assert dict(told_pairs(story.gtid)) == {0: 7, 1: 9}


def test_a_replica_tells_of_its_primary() -> None:
    by_gtid = Story(binlog="rep-bin.000001\t499\t0-77-8", slave="SET GLOBAL gtid_slave_pos = '0-77-8';\n")
    assert by_gtid.gtid == "0-77-8" and by_gtid.primary_place is None
    by_place = Story(slave="CHANGE MASTER TO MASTER_LOG_FILE='mysql-bin.000003', MASTER_LOG_POS=730;\n")
    assert by_place.primary_place == ("mysql-bin.000003", 730)


def test_every_flipped_byte_and_every_cut_is_noticed() -> None:
    whole = backup()
    for at in range(0, len(whole), 97):
        flipped = bytearray(whole)
        flipped[at] ^= 0x20
        if whole[at - 8 : at] == b"XBSTCK01":  # flags mean nothing to us
            continue
        with pytest.raises(ArchiveDamaged):
            read(bytes(flipped))
    for end in (0, 5, 100, len(whole) // 2, len(whole) - 1):
        with pytest.raises(ArchiveDamaged):
            read(whole[:end])


def test_a_stream_whose_tool_did_not_come_to_its_end_is_no_backup() -> None:
    with pytest.raises(ArchiveDamaged, match="writes last"):
        read(file("ibdata1", b"x" * 100))
    with pytest.raises(ArchiveDamaged, match="has no end"):
        read(backup(chunk("shop/t.ibd", b"rows")))


def unpacked(stream: bytes, folder: Path):
    return unpack_full(io.BytesIO(stream), folder, None, lambda count: None)


def test_files_are_put_where_they_belong_and_settings_stay_out(tmp_path: Path) -> None:
    orders = ("my.cnf", "master.info", "relay-log.info", "db-relay-bin.000003", "shop/t.isl", "mysql/user.TRG")
    found = unpacked(backup(*(file(name, b"plugin_load=hostile\n") for name in orders)), tmp_path)
    assert (tmp_path / "shop" / "orders.ibd").read_bytes() == b"rows" * 99
    assert found.needed == {"innodb_page_size": "16384", "innodb_data_file_path": "ibdata1:12M:autoextend"}
    assert set(orders) == set(found.left_out)
    assert not [path for path in tmp_path.rglob("*") if path.name in {Path(order).name for order in orders}]


@pytest.mark.parametrize(
    "name", ["/tmp/farshore-hostile", "../hostile", "shop/../../hostile", "shop//t", "a/b/c", "./", "shop/."]
)
def test_a_file_that_would_lie_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "data").mkdir()
    with pytest.raises(Refusal) as refused:
        unpacked(backup(file(name, b"x")), tmp_path / "data")
    assert refused.value.code == "SetDamaged"
    assert not Path("/tmp/farshore-hostile").exists() and [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.parametrize(
    ("told", "code"),
    [
        (b"[mysqld]\nplugin_load=file_key_management.so\n", "Encrypted"),
        (b"[mysqld]\ninnodb_data_file_path=/etc/passwd:1M\n", "SetDamaged"),
        (b"[mysqld]\ninnodb_page_size=16384 --plugin-load=x\n", "SetDamaged"),
    ],
)
def test_settings_that_lead_elsewhere_are_refused(tmp_path: Path, told: bytes, code: str) -> None:
    with pytest.raises(Refusal) as refused:
        unpacked(backup(settings=told), tmp_path)
    assert refused.value.code == code


def test_a_link_in_the_way_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "ibdata1").symlink_to(tmp_path / "outside")
    with pytest.raises(Refusal):
        unpacked(backup(), tmp_path / "data")
    assert not (tmp_path / "outside").exists()
