from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from regions.storage import Gone, Mismatch, Storage, StorageError, open_storage
from tests.regions.conftest import folder_store
from tests.regions.storage_stories import StorageStories, read, send


class TestFolder(StorageStories):
    @pytest.fixture
    def storage(self, folder: Callable[[str], Storage]) -> Storage:
        return folder("one store")

    @pytest.fixture
    def neighbour(self, folder: Callable[[str], Storage]) -> Storage:
        return folder("another")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def storage(root: Path) -> Storage:
    return open_storage(folder_store(root))


@pytest.mark.parametrize("key", ["../escape", "a/../../escape", "/etc/passwd", "a//b", ".", "a/", "", "a\0b"])
def test_no_key_leads_out_of_the_store(storage: Storage, key: str) -> None:
    with pytest.raises(StorageError) as refused:
        storage.put(key, b"x")
    assert refused.value.code == "InvalidKey"
    with pytest.raises(StorageError):
        storage.head(key)


def test_no_symbolic_link_is_followed(storage: Storage, root: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "secret.bak").write_bytes(b"secret")
    (root / "door").symlink_to(tmp_path / "outside")
    (root / "link.bak").symlink_to(tmp_path / "outside" / "secret.bak")
    for key in ("door/secret.bak", "link.bak"):
        with pytest.raises(StorageError) as refused:
            storage.head(key)
        assert refused.value.code == "NotRegular"
    with pytest.raises(StorageError):
        storage.put("door/mine", b"x")
    assert list(storage.list()) == []
    assert not (tmp_path / "outside" / "mine").exists()


def test_a_pipe_is_no_backup_and_does_not_hang_us(storage: Storage, root: Path) -> None:
    os.mkfifo(root / "pipe.bak")
    with pytest.raises(StorageError) as refused:
        storage.head("pipe.bak")
    assert refused.value.code == "NotRegular"
    assert list(storage.list()) == []


def test_names_that_are_not_text_are_keys_too(storage: Storage, root: Path) -> None:
    (root / os.fsdecode(b"caf\xe9.bak")).write_bytes(b"latin")
    [found] = storage.list()
    assert read(storage, found.key, 0, 5, found) == b"latin"


def test_a_file_that_grows_while_it_is_read_is_no_source(storage: Storage, root: Path) -> None:
    seen = storage.put("growing.bak", b"x" * 1000)
    with pytest.raises(Mismatch), storage.open_range("growing.bak", 0, 1000, seen) as stream:
        stream.readinto(memoryview(bytearray(500)))
        with (root / "growing.bak").open("ab") as file:
            file.write(b"more")
        stream.readinto(memoryview(bytearray(500)))


def test_a_folder_that_is_not_mounted_is_an_error_and_not_an_empty_store(storage: Storage, root: Path) -> None:
    root.rename(root.with_name("unmounted"))
    for ask in (lambda: storage.head("key"), lambda: list(storage.list()), lambda: storage.delete("key")):
        with pytest.raises(StorageError) as refused:
            ask()
        assert not isinstance(refused.value, Gone)


def test_a_line_torn_from_the_journal_is_a_part_that_never_was(storage: Storage, root: Path) -> None:
    upload = storage.create_upload("torn")
    receipts = send(storage, "torn", upload, [(1, 0, b"first"), (2, 5, b"second")])
    journal = root / ".farshore-uploads" / upload / "journal"
    journal.write_bytes(journal.read_bytes()[:-20])
    assert storage.list_parts("torn", upload) == receipts[:1]
    again = send(storage, "torn", upload, [(2, 5, b"second")])
    assert storage.list_parts("torn", upload) == [receipts[0], *again]


def test_a_part_that_is_half_written_over_is_no_longer_there(storage: Storage) -> None:
    upload = storage.create_upload("over")
    send(storage, "over", upload, [(1, 0, b"whole part")])
    with pytest.raises(StorageError):
        storage.put_part("over", upload, 1, 0, 10, io.BytesIO(b"half"))
    assert storage.list_parts("over", upload) == []


def test_deleting_our_object_takes_its_empty_folders_along_and_nobody_elses(storage: Storage, root: Path) -> None:
    for key in ("farshore/v1/i/s/file", "farshore/v1/i/other", "theirs/deep/file"):
        storage.delete(key, storage.put(key, b"x")) if key != "farshore/v1/i/other" else storage.put(key, b"x")
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*") if ".farshore" not in str(path)) == [
        "farshore",
        "farshore/v1",
        "farshore/v1/i",
        "farshore/v1/i/other",
        "theirs",
        "theirs/deep",
    ]


def test_what_we_write_is_for_our_eyes_only(storage: Storage, root: Path) -> None:
    storage.put("farshore/private", b"x")
    assert (root / "farshore" / "private").stat().st_mode & 0o077 == 0
