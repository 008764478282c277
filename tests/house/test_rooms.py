"""The import contracts name every room there is, so that a new tab cannot slip past them."""

from __future__ import annotations

import configparser
import subprocess
import sys
from pathlib import Path

from console.runtime.places import CLONE
from console.tabs import address_of, tabs

SHARED = {"widgets"}


def test_every_tab_stands_under_the_contract() -> None:
    contracts = configparser.ConfigParser()
    contracts.read(CLONE / ".importlinter")
    named = set(contracts["importlinter:contract:tabs"]["modules"].split())
    assert named == {f"console.{tab}" for tab in tabs() if tab not in SHARED}


def test_no_two_tabs_share_an_address() -> None:
    addresses = [address_of(tab) for tab in tabs()]
    assert len(addresses) == len(set(addresses))


def test_the_contracts_are_kept() -> None:
    command = [str(Path(sys.executable).parent / "lint-imports"), "--no-cache"]
    asked = subprocess.run(command, cwd=CLONE, capture_output=True, text=True)
    assert asked.returncode == 0, asked.stdout
