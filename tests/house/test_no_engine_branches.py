"""Outside `backups/engines` nothing may branch on an engine's name (R-1.3): what an engine can do is data."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from console.runtime.places import CLONE

NAMES = frozenset({"sqlserver", "sql server", "mssql", "postgresql", "postgres", "mariadb", "mysql"})
ENUM_MEMBERS = frozenset({"SQLSERVER", "SQL_SERVER", "MSSQL", "POSTGRESQL", "POSTGRES", "MARIADB", "MYSQL"})
WATCHED = ("regions", "billing", "console", "backups")
# The runtime starts our own database, which happens to be PostgreSQL; it knows nothing of instances.
EXEMPT = ("backups/engines", "console/runtime")


def is_engine(node: ast.AST) -> bool:
    """A literal engine name, a member such as Engine.SQLSERVER, or a collection that holds one."""
    match node:
        case ast.Constant(value=str(text)):
            return text.lower() in NAMES
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name in ENUM_MEMBERS
        case ast.Tuple(elts=inner) | ast.List(elts=inner) | ast.Set(elts=inner):
            return any(is_engine(element) for element in inner)
        case ast.Call(func=ast.Name(id="frozenset" | "set" | "tuple" | "list"), args=inner):
            return any(is_engine(argument) for argument in inner)
        case ast.Dict(keys=keys):
            return any(key is not None and is_engine(key) for key in keys)
    return False


QUESTIONS = ("startswith", "endswith", "__eq__", "__contains__", "get")


def branches(tree: ast.AST) -> Iterator[int]:
    """Yield the lines that decide by an engine's name: comparisons, membership, match cases, look-ups by name."""
    for node in ast.walk(tree):
        match node:
            case ast.Compare(left=left, comparators=others) if any(map(is_engine, [left, *others])):
                yield node.lineno
            case ast.MatchValue(value=value) if is_engine(value):
                yield value.lineno
            case ast.Call(func=ast.Attribute(attr=asked, value=base), args=given) if asked in QUESTIONS:
                if is_engine(base) or any(map(is_engine, given)):
                    yield node.lineno
            case ast.Subscript(value=ast.Dict() as table) if is_engine(table):
                yield node.lineno
            case ast.keyword(arg=str(name), value=value) if "engine" in name.split("__") and is_engine(value):
                yield value.lineno


def watched_files() -> list[Path]:
    files = [file for room in WATCHED for file in sorted((CLONE / room).rglob("*.py"))]
    return [file for file in files if not str(file.relative_to(CLONE)).startswith(EXEMPT)]


def test_nothing_outside_the_engines_branches_on_an_engines_name() -> None:
    found = [
        f"{file.relative_to(CLONE)}:{line}"
        for file in watched_files()
        for line in branches(ast.parse(file.read_text()))
    ]
    assert found == []


@pytest.mark.parametrize(
    "planted",
    [
        "if instance.engine == 'sqlserver': pass",
        "if 'PostgreSQL' != instance.engine: pass",
        "if instance.engine is Engine.SQLSERVER: pass",
        "x = 1 if engine in ('mysql', 'mariadb') else 2",
        "if engine in frozenset({'sqlserver'}): pass",
        "if engine in ENGINES_WITH_LOGS or engine == POSTGRESQL: pass",
        "match engine:\n    case 'sqlserver':\n        pass",
        "match engine:\n    case Engine.MARIADB | Engine.MYSQL:\n        pass",
        "if engine.startswith('postgres'): pass",
        "suffix = {'sqlserver': '.bak', 'postgresql': '.tar'}[engine]",
        "suffix = {'sqlserver': '.bak'}.get(engine)",
        "sets = BackupSet.objects.filter(instance__engine='sqlserver')",
        "sets = BackupSet.objects.exclude(instance__engine__in=['sqlserver'])",
        "while engine == 'mariadb': pass",
        "assert engine == 'mysql'",
    ],
)
def test_a_planted_branch_is_found(planted: str) -> None:
    assert list(branches(ast.parse(planted)))


@pytest.mark.parametrize(
    "innocent",
    [
        "engine = models.CharField(choices=ENGINES)",
        "Instance.objects.create(name='payroll')",
        "label = engine_of(instance.engine).label",
        "if capabilities.takes_backups: pass",
        "text = 'SQL Server backups are found, not taken.'",
        "ENGINE = 'django.db.backends.postgresql'",
    ],
)
def test_what_only_mentions_an_engine_is_not_taken_for_a_branch(innocent: str) -> None:
    assert not list(branches(ast.parse(innocent)))
