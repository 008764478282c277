"""The site's own program that has its storage take a snapshot, and release it again (docs/decisions/0080).

It is named in the worker's environment only. It is run without a shell and without anything of ours in its environment,
hears one JSON object, and answers with one. It lives no longer than it is allowed to, nor longer than this worker does.
"""

from __future__ import annotations

import ctypes
import json
import os
import pwd
import selectors
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from django.conf import settings

from backups.engines import confinement
from backups.engines.facts import DatabaseFile, Stopped
from regions.refusals import Refusal

VERSION = 1
MOST_ANSWER, MOST_COMPLAINT = 1 << 20, 400
RELEASE_SECONDS = 120.0
LOOK_SECONDS = 0.2
END_SECONDS = 5
PR_SET_PDEATHSIG = 1
Stop = Callable[[], bool]


@dataclass(frozen=True)
class Asked:
    """Of what a snapshot is taken: `handle` is ours, and the same when it is released."""

    handle: str
    instance: str
    database: str

    def words(self, action: str, **more: Any) -> dict[str, Any]:
        who = {"id": self.handle, "instance": self.instance, "database": self.database}
        return {"version": VERSION, "action": action, **who, **more}


def take(asked: Asked, files: tuple[DatabaseFile, ...], seconds: float, stop: Stop | None = None) -> dict[int, str]:
    """Have a snapshot taken of these files; return where each one's frozen bytes are, by its number. Raises Refusal."""
    told = [
        {"file_id": one.file_id, "name": one.logical_name, "path": one.physical_path, "type": one.kind}
        | {"size": one.size_bytes}
        for one in files
    ]
    answer = _run(asked.words("take", files=told, seconds=round(seconds, 1)), seconds, stop)
    return where_frozen(answer, files)


def release(asked: Asked) -> None:
    """Have a snapshot released, if there is one; raises Refusal. Safe to repeat."""
    _run(asked.words("release"), RELEASE_SECONDS, None)


def where_frozen(answer: bytes, files: tuple[DatabaseFile, ...]) -> dict[int, str]:
    """Read what the hook answered; raises Refusal unless it names one path for each file, and no other. Pure."""
    try:
        said = json.loads(answer)
        found = {one["file_id"]: one["path"] for one in said["files"]}
        is_text = all(isinstance(path, str) and "\0" not in path for path in found.values())
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise _failed("it does not answer with the JSON object that was asked for") from error
    if not is_text or len(said["files"]) != len(files) or set(found) != {one.file_id for one in files}:
        raise _failed("its answer does not name one path for each file of the database")
    return found


def require() -> None:
    """Raise Refusal unless this worker has a hook that nobody else could have put there, and a folder to read from."""
    if not settings.SNAPSHOT_HOOK or not settings.SNAPSHOT_ROOT:
        raise Refusal(
            "SnapshotHookMissing",
            "The workers of this region know no program that has the storage take a snapshot.",
            "Set SNAPSHOT_HOOK and SNAPSHOT_ROOT in their environment, or make the backup method physical.",
        )
    try:
        found, folder = os.stat(settings.SNAPSHOT_HOOK), os.stat(Path(settings.SNAPSHOT_HOOK).parent)
    except OSError as error:
        raise _unsafe(f"cannot be read: {error.strerror}") from error
    if not stat.S_ISREG(found.st_mode) or not os.access(settings.SNAPSHOT_HOOK, os.X_OK):
        raise _unsafe("is no program that this worker may run")
    if _is_others(found) or (_is_others(folder) and not folder.st_mode & stat.S_ISVTX):
        raise _unsafe("can be written or replaced by others than root and this worker's own account")


def _is_others(found: os.stat_result) -> bool:
    return found.st_uid not in (0, os.geteuid()) or bool(found.st_mode & (stat.S_IWGRP | stat.S_IWOTH))


def _unsafe(why: str) -> Refusal:
    return Refusal("SnapshotHookUnsafe", f"The snapshot hook {settings.SNAPSHOT_HOOK} {why}.", "Put it right.")


def _failed(why: str) -> Refusal:
    return Refusal("SnapshotHookFailed", f"The snapshot hook failed: {why}.", "See what it does when run by hand.")


# ---- running it


def _run(words: dict[str, Any], seconds: float, stop: Stop | None) -> bytes:
    require()
    home = pwd.getpwuid(os.geteuid()).pw_dir
    try:
        process = subprocess.Popen(
            [settings.SNAPSHOT_HOOK],
            stdin=_as_file(words),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            env=confinement.environment(Path(home)),
            start_new_session=True,
            preexec_fn=_ends_with_us(os.getpid()),
        )
    except OSError as error:
        raise _failed(f"it cannot be started ({error.strerror})") from error
    try:
        answer, complaint = _heard(process, time.monotonic() + seconds, stop)
    finally:
        _end(process)
    if process.returncode:
        said = complaint.decode("utf-8", "replace").strip()
        raise _failed(f"it ended with {process.returncode}{': ' + printable(said) if said else ''}")
    return answer


def _end(process: subprocess.Popen) -> None:
    """Kill it while it is not reaped, and all that it started. One that hangs in the kernel survives that: this worker
    goes on, and does not wait for it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    for pipe in (process.stdout, process.stderr):
        pipe.close()
    with suppress(subprocess.TimeoutExpired):
        process.wait(END_SECONDS)


def _as_file(words: dict[str, Any]) -> BinaryIO:
    """As a file, not a pipe: whoever does not read it holds up nobody."""
    file = tempfile.TemporaryFile()  # noqa: SIM115 - closed when nobody has it any more
    file.write(json.dumps(words).encode() + b"\n")
    file.seek(0)
    return file


def printable(said: str) -> str:
    return "".join(character if character.isprintable() else " " for character in said)[-MOST_COMPLAINT:]


def _ends_with_us(parent: int) -> Callable[[], None]:
    """Linux: it is killed when the thread that started it is gone, so that none works on for a dead worker."""
    library = ctypes.CDLL(None)

    def before() -> None:
        library.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)

    return before


def _heard(process: subprocess.Popen, until: float, stop: Stop | None) -> tuple[bytes, bytes]:
    """Take in what it says until it ends; raises Refusal when that is too late, or too much."""
    heard = {process.stdout: bytearray(), process.stderr: bytearray()}
    with selectors.DefaultSelector() as waiting:
        for pipe in heard:
            waiting.register(pipe, selectors.EVENT_READ)
        while not (is_over := _has_ended(process)) or waiting.get_map():
            if stop and stop():
                raise Stopped
            if time.monotonic() > until:
                raise _too_late()
            ready = waiting.select(0 if is_over else LOOK_SECONDS)
            for key, _ in ready:
                if not _take_in(key.fileobj, heard[key.fileobj], is_answer=key.fileobj is process.stdout):
                    waiting.unregister(key.fileobj)
            if is_over and not ready:
                break  # something that it started still holds the pipes
            if not waiting.get_map():
                time.sleep(0.01)
    return bytes(heard[process.stdout]), bytes(heard[process.stderr])


def _has_ended(process: subprocess.Popen) -> bool:
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _take_in(pipe: Any, heard: bytearray, *, is_answer: bool) -> bool:
    """Read what is there; False at its end."""
    piece = os.read(pipe.fileno(), 65_536)
    heard += piece
    if is_answer and len(heard) > MOST_ANSWER:
        raise _failed("it answers with more than a mebibyte")
    if not is_answer:
        del heard[: -4 * MOST_COMPLAINT]
    return bool(piece)


def _too_late() -> Refusal:
    return Refusal(
        "SnapshotHookTooLate",
        "The snapshot hook did not end in time, and was ended.",
        "See what it does in that time, or allow more (SNAPSHOT_SECONDS).",
    )
