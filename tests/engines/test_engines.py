"""The register of engines: what each can do is data, and a driver nobody uses is never loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest

from backups.engines import ENGINES, engine_of, is_among, startable_here
from backups.engines.facts import Inspection
from regions.refusals import Refusal


def test_the_three_engines_go_by_the_names_people_use():
    labels = {name: engine.capabilities.label for name, engine in ENGINES.items()}
    assert labels == {"sqlserver": "SQL Server", "postgresql": "PostgreSQL", "mariadb": "MariaDB"}


def test_an_unknown_engine_is_refused_with_the_names_there_are():
    with pytest.raises(Refusal) as refused:
        engine_of("oracle")
    assert refused.value.code == "UnknownEngine"
    assert "mariadb, postgresql, sqlserver" in refused.value.remedy


@pytest.mark.parametrize("name", sorted(ENGINES))
def test_an_engine_offers_the_verbs_its_capabilities_promise(name):
    engine = engine_of(name)
    assert engine.capabilities.discovers_files == (engine.inspect is not None)
    if engine.capabilities.takes_backups:
        assert (engine.take_full is not None) == engine.capabilities.whole_server
        assert (engine.take_database is not None) == engine.capabilities.writes_to_a_share
        assert engine.probe is not None
    if engine.capabilities.takes_differentials or engine.capabilities.takes_logs:
        assert engine.take_database is not None
    if engine.capabilities.incrementals_since:
        assert engine.take_incremental is not None and engine.capabilities.differential_label == "Incremental"


def test_naming_the_engines_loads_none_of_them():
    program = "import sys, backups.engines; print([m for m in sys.modules if m.startswith('backups.engines.')])"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert "sqlserver" not in loaded
    assert "postgresql" not in loaded


def test_an_inspection_has_sets_or_a_refusal_and_never_both():
    with pytest.raises(ValueError):
        Inspection()
    with pytest.raises(ValueError):
        Inspection(sets=("a set",), refusal=Refusal("Truncated", "The file ends too early."))


def test_incrementals_are_offered_from_the_version_that_has_them():
    able = engine_of("postgresql").capabilities
    offered = [version for version in ("16.9", "17.0", "18", "") if able.takes_incrementals_of(version)]
    assert offered == ["17.0", "18", ""], "a version nobody knows may be new enough"
    assert not engine_of("sqlserver").capabilities.takes_incrementals_of("17.0")


def test_a_version_is_among_those_that_can_be_started_by_whole_numbers():
    assert is_among("18.6", ["15", "18"]) and is_among("10.11.6", ["10.11"])
    assert not is_among("18.6", ["1", "8"]) and not is_among("10.1.6", ["10.11"])
    assert "sqlserver" not in startable_here(), "it cannot say"
