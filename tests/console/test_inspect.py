"""`manage.py inspect` tells what lies in backup files: every set, or why not, of whatever it is pointed at."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import StringIO
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from django.core.management import CommandError, call_command

from backups.engines.facts import Kind
from backups.engines.sqlserver.columns import COLUMNS
from console.management.commands.inspect import told_of
from console.management.found_files import Found, files_at
from console.management.header_text import WIDTH, lines_of
from console.runtime.places import CLONE
from demo import mtf
from demo.mtf_compressed import compressed_file, encrypted_file
from regions.storage import open_storage
from tests.house.running import plain_environment
from tests.regions.conftest import bucket_store, make_bucket
from tests.servers import S3Region

CHAIN = mtf.chain(logs=1)
TYPES = {Kind.FULL: 1, Kind.LOG: 2, Kind.DIFFERENTIAL: 5}


def inspect(*words: object) -> tuple[int, str]:
    """Run the command; return its exit code and what it wrote."""
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("inspect", *map(str, words), stdout=out)
    return ended.value.code, out.getvalue()


def inspected(*words: object) -> list[dict[str, Any]]:
    return json.loads(inspect("--json", *words)[1])


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, bytes], Path]:
    def written(name: str, body: bytes) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
        return path

    return written


def test_every_column_says_what_was_written(write):
    backup = mtf.differential(CHAIN[0], first=mtf.lsn(44), started_at=CHAIN[-1].finished_at, time_zone=-28)
    path = write("weekly.dif", mtf.file_of(backup, media=mtf.media_of(backup, families=3, sequence=2)))
    assert inspected(path) == [
        {
            "path": str(path),
            "Position": 1,
            "refused": None,
            "DatabaseName": "Sales",
            "ServerName": "SQLPROD01",
            "BackupType": 5,
            "BackupStartDate": "2026-11-02T03:00:20+00:00",
            "BackupFinishDate": "2026-11-02T03:00:40+00:00",
            "FirstLSN": 44000000001600001,
            "LastLSN": 44000000001700001,
            "CheckpointLSN": backup.checkpoint,
            "DatabaseBackupLSN": CHAIN[0].checkpoint,
            "BackupSetGUID": str(backup.set_guid),
            "FamilyGUID": str(backup.family_guid),
            "DifferentialBaseGUID": str(CHAIN[0].set_guid),
            "RecoveryForkID": str(backup.fork_guid),
            "MediaSetGUID": str(mtf.media_of(backup).guid),
            "FamilySequenceNumber": 2,
            "FamilyCount": 3,
            "HasBackupChecksums": True,
            "IsCopyOnly": False,
            "IsSnapshot": False,
            "BeginsLogChain": False,
            "Compressed": False,
            "BackupSize": mtf.size_of(backup),
            "SoftwareVersionMajor": 15,
            "SoftwareVersionMinor": 0,
            "SoftwareVersionBuild": 4430,
            "Files": [
                {
                    "LogicalName": "Sales",
                    "PhysicalName": "D:\\data\\Sales.mdf",
                    "Type": "D",
                    "Size": 16 * 2 * 8192,
                    "FileId": 1,
                },
                {
                    "LogicalName": "Sales_log",
                    "PhysicalName": "L:\\log\\Sales_log.ldf",
                    "Type": "L",
                    "Size": 8 << 20,
                    "FileId": 2,
                },
            ],
            "verification": None,
        }
    ]


def test_an_appended_file_gives_its_sets_in_order(write):
    told = inspected(write("all.bak", mtf.file_of(*CHAIN)))
    assert [one["Position"] for one in told] == [1, 2, 3]
    assert [one["BackupType"] for one in told] == [TYPES[backup.kind] for backup in CHAIN]
    assert [one["BackupSetGUID"] for one in told] == [str(backup.set_guid) for backup in CHAIN]


def test_a_full_has_no_base_and_integers_all_the_same(write):
    (told,) = inspected(write("a", compressed_file(CHAIN[0])))
    assert (told["DatabaseBackupLSN"], told["DifferentialBaseGUID"], told["Compressed"]) == (0, None, True)


def test_a_refused_file_tells_nothing_but_why(write):
    """The sets before the damage are not told either: nothing in a file that lies can be believed."""
    file = mtf.file_of(*CHAIN)
    code, out = inspect("--json", write("cut.bak", file[:-512]))
    (told,) = json.loads(out)
    assert code == 1
    assert told["refused"]["code"] == "Truncated"
    assert told["refused"]["sentence"].startswith("The file ends too early: ")
    assert {told[name] for name in ("Position", "verification", *COLUMNS)} == {None}


def test_what_is_wrong_has_its_own_code_and_does_not_hide_what_is_right(write, tmp_path):
    bodies = {
        "empty": b"",
        "encrypted.bak": encrypted_file(),
        "good.bak": mtf.write_full(),
        "newer.bak": mtf.write_full(version=(16, 0, 1000)),
        "notes.txt": b"to do: back up\n" * 40,
    }
    for name, body in bodies.items():
        write(name, body)
    (tmp_path / "nowhere").symlink_to("gone")
    os.mkfifo(tmp_path / "pipe")
    code, out = inspect("--json", tmp_path, tmp_path / "good.bak" / "below", tmp_path / "missing")
    found = {Path(told["path"]).name: (told["refused"] or {}).get("code") for told in json.loads(out)}
    assert code == 1
    assert found == {
        "empty": "Truncated",
        "encrypted.bak": "EncryptedHeader",
        "good.bak": None,
        "newer.bak": "UnknownVersion",
        "notes.txt": "NotASqlServerBackup",
        "nowhere": "NoSuchFile",
        "pipe": "NotRegular",
        "below": "NotReadable",
        "missing": "NoSuchFile",
    }


def test_a_folder_is_walked_once_whatever_leads_to_it(write, tmp_path):
    write("one/a.bak", mtf.write_full())
    write("two/deep/b", mtf.write_full())
    write("two/.farshore-uploads/3/body", b"unfinished")
    (tmp_path / "two" / "back").symlink_to(tmp_path)
    (tmp_path / "one" / "again").symlink_to(tmp_path / "two")
    (tmp_path / "one" / "self").symlink_to("self")
    told = [(os.path.relpath(one["path"], tmp_path), bool(one["refused"])) for one in inspected(tmp_path)]
    assert told == [("one/a.bak", False), ("one/again/deep/b", False), ("one/self", True)]


def test_folders_a_thousand_deep_are_no_trouble(tmp_path):
    folders = [str(tmp_path) + "/d" * depth for depth in range(1, 1200)]
    for folder in folders:
        os.mkdir(folder)
    os.symlink(os.devnull, folders[-1] + "/x")
    told = inspected(tmp_path)
    os.unlink(folders[-1] + "/x")
    for folder in reversed(folders):
        os.rmdir(folder)
    assert [(one["path"], one["refused"]["code"]) for one in told] == [(folders[-1] + "/x", "NotRegular")]


def test_an_address_of_a_file_or_folder_is_a_path(write, tmp_path):
    path = write("wöchentlich 100%.bak", mtf.write_full())
    for address in (path.as_uri(), tmp_path.as_uri()):
        assert [one["path"] for one in inspected(address)] == [str(path)]


def test_a_name_that_is_no_text_is_told_all_the_same(tmp_path):
    path = os.fsencode(tmp_path) + b"/\xff\x1b[2J.bak"
    Path(os.fsdecode(path)).write_bytes(mtf.write_full("\x1b]0;owned\x07"))
    (told,) = inspected(tmp_path)
    assert os.fsencode(told["path"]) == path
    code, wrapped = inspect(tmp_path)
    assert code == 0
    text = wrapped.replace("\n    ", "")
    assert "\\udcff\\x1b[2J.bak" in text
    assert "\\x1b]0;owned\\x07" in text
    assert text.replace("\n", "").isprintable()


def test_an_empty_folder_is_an_empty_list(tmp_path):
    assert inspect("--json", tmp_path) == (0, "[]\n")
    assert inspect(tmp_path) == (0, "Backup sets: 0. Files refused: 0.\n")


@pytest.mark.parametrize("place", ["ftp://host/a.bak", "file://host/a.bak", "s3://X", "s3://key@bucket/a"])
def test_what_is_no_address_is_wrong_use(place):
    with pytest.raises(CommandError) as refused:
        call_command("inspect", place)
    assert refused.value.returncode == 2


# ---- verifying


@pytest.mark.parametrize(
    ("body", "level", "code"),
    [
        (mtf.file_of(*CHAIN), "backup checksum", 0),
        (mtf.write_full(checksum=False), "page checksum", 0),
        (compressed_file(CHAIN[0]), "structure", 0),
        (encrypted_file(), "not inspectable", 1),
        (mtf.write_full(version=(16, 0, 1000)), "backup checksum", 1),
        (mtf.flipped(mtf.write_full(), 8 * 200_000), "damaged", 1),
        (b"neither" * 100, "not inspectable", 1),
    ],
)
def test_verifying_says_the_level(write, body, level, code):
    ended, out = inspect("--json", "--verify", write("a.bak", body))
    told = json.loads(out)
    assert ended == code
    assert {one["verification"]["level"] for one in told} == {level}
    assert all(one["verification"]["sentence"] for one in told)


def test_a_file_that_cannot_be_verified_is_not_read_to_its_end(write):
    path = write("disk.img", b"no backup" * 100)
    os.truncate(path, 1 << 42)
    (told,) = inspected("--verify", path)
    assert told["verification"]["level"] == "not inspectable"


def test_a_file_that_grows_meanwhile_is_refused(write):
    path = write("a.bak", mtf.write_full())
    (found,) = files_at(str(path), {}, {})

    @contextmanager
    def growing() -> Iterator[Any]:
        with found.opened() as file:
            path.write_bytes(mtf.write_full() + b"more")
            yield file

    (told,) = told_of(Found(str(path), growing), verify=True)
    assert told["refused"]["code"] == "StillChanging"
    assert told["verification"] is told["DatabaseName"] is None


def test_a_file_that_shrinks_meanwhile_is_refused(write):
    path = write("a.bak", mtf.write_full(pages=400))
    (found,) = files_at(str(path), {}, {})
    with found.opened() as file:
        os.truncate(path, 1 << 20)
        with pytest.raises(Exception, match="changed while it was read"):
            list(file.pieces())


def test_a_large_file_is_read_in_bounded_memory(tmp_path):
    path = tmp_path / "large.bak"
    with path.open("wb") as out:
        mtf.write(out, mtf.full(pages=6000))
    tracemalloc.start()
    (told,) = inspected("--verify", path)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert told["verification"]["level"] == "backup checksum"
    assert most < 12 << 20 < path.stat().st_size / 3


# ---- for people


@pytest.mark.parametrize(
    "backup",
    [
        mtf.full(),
        mtf.full("销售" * 30, server="x" * 70),
        mtf.full("a long name with many words in it, " * 3, checksum=False),
        mtf.differential(CHAIN[0], first=mtf.lsn(44), started_at=CHAIN[-1].finished_at),
    ],
)
def test_the_text_fits_eighty_columns(write, backup):
    path = write("down/" * 12 + "销" * 30 + ".bak", mtf.file_of(backup))
    (told,) = (one for found in files_at(str(path), {}, {}) for one in told_of(found, verify=True))
    lines = list(lines_of(told))
    assert max(sum(2 if ord(letter) > 0x2E00 else 1 for letter in line) for line in lines) <= WIDTH
    assert "".join(line.strip() for line in lines).replace(" ", "").count(backup.database.replace(" ", "")) >= 1
    (times,) = [line for line in lines if "BackupStartDate" in line]
    assert times == f"  BackupStartDate         {backup.started_at:%Y-%m-%d %H:%M:%S} UTC"


def test_text_says_why_a_file_is_refused(write):
    code, text = inspect(write("notes.txt", b"hello" * 100))
    assert code == 1
    assert "NotASqlServerBackup: This file is not a native SQL" in text
    assert text.endswith("Backup sets: 0. Files refused: 1.\n")


# ---- from a shell


def run(*words: object, **more: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(CLONE / "manage.py"), "inspect", *map(str, words)]
    environment = plain_environment(FARSHORE_DATA="/proc/nowhere", **more)
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, cwd="/")


def test_it_needs_neither_database_nor_data_folder(write):
    path = write("a.bak", mtf.write_full())
    done = run("--json", path)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)[0]["DatabaseName"] == "Sales"


def test_wrong_use_ends_with_two_and_an_ascii_terminal_gets_escapes(write):
    assert run().returncode == run("--no-such-option").returncode == run("ftp://x").returncode == 2
    done = run(write("a.bak", mtf.write_full("销售")), PYTHONIOENCODING="ascii")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u9500\\u552e" in done.stdout


def test_a_reader_that_has_seen_enough_gets_no_traceback(write):
    path = write("a.bak", mtf.file_of(*mtf.chain(logs=400)))
    command = f"cd {quote(str(path.parent))} && {sys.executable} {CLONE}/manage.py inspect a.bak | head -1"
    done = subprocess.run(command, shell=True, env=plain_environment(), capture_output=True, text=True, timeout=60)
    assert done.stdout == "a.bak (set 1)\n"
    assert done.stderr == ""


# ---- from a bucket


@pytest.fixture
def bucket(ceph_regions: tuple[S3Region, S3Region], monkeypatch: pytest.MonkeyPatch) -> str:
    """A bucket with a few files, and its keys in the environment as the vendors' own tools want them."""
    region = ceph_regions[0]
    url = make_bucket(region)
    storage = open_storage(bucket_store(region, url))
    bodies = {"nightly/a.bak": CHAIN[:1], "nightly/b.trn": CHAIN[1:], "nightly2/c.bak": CHAIN[:1]}
    for key, chain in bodies.items():
        storage.put(key, mtf.file_of(*chain))
    storage.put("nightly/large.bak", mtf.write_full(pages=500))
    storage.put("nightly/notes", random.Random(1).randbytes(5000))
    storage.put("nightly/", b"")
    monkeypatch.setenv("AWS_ENDPOINT_URL", region.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", region.access_key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", region.secret_key)
    return url


def test_a_prefix_of_a_bucket_is_walked_like_a_folder(bucket):
    told = inspected("--verify", f"{bucket}/nightly/")
    names = [(one["path"].removeprefix(bucket), one["Position"], one["verification"]["level"]) for one in told]
    assert names == [
        ("/nightly/a.bak", 1, "backup checksum"),
        ("/nightly/b.trn", 1, "backup checksum"),
        ("/nightly/b.trn", 2, "backup checksum"),
        ("/nightly/large.bak", 1, "backup checksum"),
        ("/nightly/notes", None, "not inspectable"),
    ]
    assert len(inspected(bucket)) == 6


def test_one_object_is_told_by_its_own_address(bucket):
    assert [one["path"] for one in inspected(f"{bucket}/nightly/a.bak")] == [f"{bucket}/nightly/a.bak"]


def test_an_object_that_is_not_there_and_a_store_that_says_no_are_refusals(bucket, monkeypatch):
    assert inspected(f"{bucket}/nowhere")[0]["refused"]["code"] == "NoSuchFile"
    assert inspected("s3://farshore-no-such-bucket")[0]["refused"]["code"] == "NoSuchBucket"
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    (told,) = inspected(f"{bucket}/nightly/a.bak")
    assert (told["path"], told["refused"]["code"]) == (f"{bucket}/nightly/a.bak", "SignatureDoesNotMatch")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    assert inspected(bucket)[0]["refused"]["code"] == "NoCredentials"


def test_an_object_that_is_overwritten_meanwhile_is_refused(bucket, ceph_regions):
    storage = open_storage(bucket_store(ceph_regions[0], bucket))
    environment = dict(os.environ)
    (found,) = files_at(f"{bucket}/nightly/large.bak", {}, environment)

    @contextmanager
    def overwritten() -> Iterator[Any]:
        with found.opened() as file:
            storage.put("nightly/large.bak", mtf.write_full(pages=501))
            yield file

    (told,) = told_of(Found(found.path, overwritten), verify=False)
    assert told["refused"]["code"] == "StillChanging"
