"""Whom the engines' programs run as: tools end with us, a restored server knows and reaches nothing of ours.

Linux only (prctl, unshare). Restored bytes are not trusted: as root we give the server an account that is there
already; an ordinary user has none to give, so its servers are as mighty as it is.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import subprocess
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from regions.refusals import Refusal

ACCOUNTS = ("farshore-restore", "postgres", "mysql", "nobody")
PR_SET_PDEATHSIG, PR_SET_NO_NEW_PRIVS = 1, 38
CLONE_NEWUSER, CLONE_NEWNET = 0x1000_0000, 0x4000_0000
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Account:
    uid: int
    gid: int


def account(names: Sequence[str] = ACCOUNTS) -> Account | None:
    """Whose a restored server is: None (our own) where uids cannot be changed; raises Refusal when root finds none."""
    if os.geteuid() != 0:
        return None
    for name in names:
        with suppress(KeyError):
            found = pwd.getpwnam(name)
            return Account(found.pw_uid, found.pw_gid)
    raise Refusal(
        "NoAccount",
        f"A restored server must not run as root, and none of the accounts {', '.join(names)} is there.",
        f"Add a system account named {names[0]}.",
    )


def reaches(whom: Account | None, path: Path) -> bool:
    """Whether this account can pass through every folder down to the path."""
    asked = subprocess.run(
        ["/bin/sh", "-c", 'test -x "$0"', str(path)], cwd="/", env={}, preexec_fn=confined(os.getpid(), whom)
    )
    return asked.returncode == 0


def environment(home: Path | str = "/", **more: str) -> dict[str, str]:
    """Everything a restored server or a tool that reads its bytes gets to know: no key, address or password of ours."""
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    return {"LC_ALL": "C", "TZ": "UTC", "HOME": str(home), **kept, **more}


def tied(parent: int, by: signal.Signals = signal.SIGKILL) -> Callable[[], None]:
    """Return a `preexec_fn`: the child ends when the thread that starts it ends, by kill -9 too."""

    def tie() -> None:
        _libc.prctl(PR_SET_PDEATHSIG, int(by), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return tie


def confined(
    parent: int, whom: Account | None, *, by: signal.Signals = signal.SIGKILL, alone: bool = False
) -> Callable[[], None]:
    """Like `tied`, under another account, without a way to more rights; `alone`: without network, where that can be.

    Popen must not change the user itself: a network of its own needs the rights that go with root.
    """

    def confine() -> None:
        if alone:
            _libc.unshare(CLONE_NEWNET | (0 if whom else CLONE_NEWUSER))
        if whom:
            os.setgroups([])
            os.setresgid(whom.gid, whom.gid, whom.gid)
            os.setresuid(whom.uid, whom.uid, whom.uid)
        _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
        tied(parent, by)()

    return confine


def has_own_network(pid: int) -> bool:
    """Evidence, read from the running process, that it sees no network of this machine."""
    with suppress(OSError):
        return os.readlink(f"/proc/{pid}/ns/net") != os.readlink("/proc/self/ns/net")
    return False


def living_in(folder: Path) -> list[int]:
    """The processes whose working directory lies in the folder: a server's processes live in their data."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdigit() and Path(os.readlink(entry / "cwd")).is_relative_to(folder):
                found.append(int(entry.name))
    return found


def own(path: Path, whom: Account | None, mode: int, *, theirs: bool = True) -> Path:
    """Give a path to the account, or (not `theirs`) keep it ours and let the account's group in as far as `mode` says.

    An ordinary user's is its own anyway.
    """
    if whom:
        os.chown(path, whom.uid if theirs else -1, whom.gid, follow_symlinks=False)
    path.chmod(mode)
    return path


def run(command: Sequence[object], whom: Account | None, known: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a short program as the account, from the root folder, and return what it said."""
    return subprocess.run(
        list(map(str, command)),
        cwd="/",
        env=dict(known),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        preexec_fn=confined(os.getpid(), whom),
    )
