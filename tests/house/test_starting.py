"""Every command is loaded anew, and so is every worker: what that costs is paid a hundred times a day."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
ASK = "import gc; print(gc.isenabled(), gc.get_freeze_count() > 50_000, gc.get_stats()[2]['collections'])"


def test_nothing_that_is_loaded_is_searched_for_garbage() -> None:
    """A full search takes a tenth of a second, wherever it happens to fall; afterwards it goes on as usual."""
    command = [sys.executable, "manage.py", "shell", "-v0", "-c", ASK]
    answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert answer.stdout.split() == ["True", "True", "0"], answer.stderr
