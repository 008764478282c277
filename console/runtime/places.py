"""Where things lie: the clone, the data folder, the private folders for sockets, and the notes `up` leaves there.

Standard library only.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
from pathlib import Path
from typing import IO
from urllib.parse import quote

from console.runtime import variables
from regions.refusals import Refusal

CLONE = Path(__file__).resolve().parents[2]
DATABASE = "farshore"
SUPERUSER = "farshore"


def data_folder() -> Path:
    return Path(variables.text("FARSHORE_DATA", str(CLONE / "var"))).expanduser().absolute()


def private_folder(path: Path, owner: tuple[int, int] | None = None) -> Path:
    """Make a 0700 folder, or make sure that the one found there is nobody else's; never follow a link."""
    uid, gid = owner or (os.geteuid(), os.getegid())
    try:
        os.mkdir(path, 0o700)
        os.chown(path, uid, gid, follow_symlinks=False)
    except FileExistsError:
        found = os.lstat(path)
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != uid:
            raise Refusal("FolderTaken", f"{path} belongs to somebody else.", "Remove it and start again.") from None
        os.chmod(path, 0o700)
    return path


def socket_folder(kind: str, data: Path) -> Path:
    """Name a folder for sockets, the same at every start for this data folder.

    A socket's path may have 107 bytes, so it cannot lie in the data folder; a user's runtime folder vanishes when they
    sign out, so it is not there either.
    """
    base = Path("/run") if os.geteuid() == 0 and os.access("/run", os.W_OK) else Path("/tmp")
    mark = hashlib.sha256(f"{os.geteuid()}:{data.resolve()}".encode()).hexdigest()[:10]
    return base / f"farshore-{mark}-{kind}"


def embedded_database_url(data: Path) -> str:
    return f"postgresql:///{DATABASE}?user={SUPERUSER}&host={quote(str(socket_folder('db', data)), safe='')}"


def embedded_broker_url(data: Path) -> str:
    return f"redis+socket://{socket_folder('mq', data)}/valkey.sock?virtual_host=0"


def open_log(path: Path) -> IO[bytes]:
    """Open a log for appending, readable by its owner only, also where an earlier start left it open to all (I18)."""
    log = os.fdopen(os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600), "ab")
    os.fchmod(log.fileno(), 0o600)
    return log


def write_private(path: Path, content: str) -> None:
    """Put a file in its place in one step, readable by its owner only."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(draft, path)


def keep_once(path: Path, content: str) -> str:
    """Write the file if there is none yet, and return what is in it; of two who try, one wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    write_private(draft, content)
    try:
        os.link(draft, path)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return path.read_text()


def secret_key(data: Path) -> str:
    return variables.text("FARSHORE_SECRET_KEY") or keep_once(data / "secret_key", secrets.token_urlsafe(64)).strip()


def notes_file(data: Path) -> Path:
    return data / "environment"


def leave_notes(data: Path, notes: dict[str, str]) -> None:
    """Tell `status`, `shell` and `audit` beside a running `up` where its database and broker are."""
    write_private(notes_file(data), "".join(f"{name}={value}\n" for name, value in notes.items()))


def read_notes(data: Path) -> dict[str, str]:
    try:
        lines = notes_file(data).read_text().splitlines()
    except OSError:
        return {}
    return dict(line.split("=", 1) for line in lines if "=" in line)


def adopt_notes(data: Path) -> None:
    """What the environment says wins; what it leaves open is taken from a running `up`."""
    for name, value in read_notes(data).items():
        os.environ.setdefault(name, value)
