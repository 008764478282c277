"""One way in: python-tds over our own wire, always in autocommit, for a BACKUP in a transaction is refused (3021)."""

from __future__ import annotations

import logging
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import pytds
from pytds.tds_base import Param
from pytds.tds_types import NVarCharType

from backups.engines.connections import refuse_ambiguous
from backups.engines.facts import Connection
from backups.engines.sqlserver.refusals import Said, refusal_from, refusal_of_the_wire
from backups.engines.sqlserver.wire import Broken, Wire
from regions.refusals import Refusal

ANSWER_SECONDS = 30  # one that answers nothing for so long is gone
LONGEST_NAME = 128
ONE_HOST = "Enter one host, and the instance's own port."
PROGRAM = "Farshore"
TEXT = NVarCharType(4000)
LOGIN_FAILED, DATABASE_CLOSED = 18456, 4060

logging.getLogger("pytds").setLevel(logging.ERROR)  # below that it tells of every question, and of every login

# What the driver raises over a stream that is no TDS, beside its own errors.
ODD = (
    struct.error,
    AttributeError,
    ValueError,
    LookupError,
    TypeError,
    AssertionError,
    OverflowError,
    MemoryError,
    RuntimeError,
)


class Session:
    """A session with the server; raises Refusal with the reason in words."""

    def __init__(self, connection: Connection, wire: Wire, driver: Any) -> None:
        self.connection, self._wire, self._driver = connection, wire, driver

    def ask(self, question: str, *values: Any, seconds: float = ANSWER_SECONDS) -> list[dict[str, Any]]:
        """Answer by the names of the columns, which differ between versions in number and order."""
        with self._asking(seconds) as cursor:
            cursor.execute(question, typed(values))
            names = [column[0] for column in cursor.description or ()]
            rows = [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
            _hear_out(cursor)
            return rows

    def run(self, statement: str, *values: Any, seconds: float | None = ANSWER_SECONDS) -> list[Said]:
        """Carry out a statement and return all that the server said meanwhile; `seconds` None waits for ever."""
        with self._asking(seconds) as cursor:
            cursor.execute(statement, typed(values))
            _hear_out(cursor)
            return _said(cursor)

    def hear(self, statement: str, *values: Any, seconds: float | None = ANSWER_SECONDS) -> list[Said]:
        """As `run`, where errors are what is asked for (DBCC): they are returned among the rest of what was said."""
        self._wire.allow(seconds)
        cursor = self._driver.cursor()
        try:
            cursor.execute(statement, typed(values))
            _hear_out(cursor)
        except Broken as error:
            raise refusal_of_the_wire(str(error), self.connection) from error
        except pytds.Error as error:
            if not any(message.is_error for message in _said(cursor)):
                raise _refusal(error, [], self.connection) from error
        return _said(cursor)

    @property
    def number(self) -> int:
        """What the server calls this session (SPID)."""
        return self.ask("SELECT @@SPID AS number")[0]["number"]

    def shut(self) -> None:
        """End the connection from another thread; the server then gives up what it was doing for it."""
        self._wire.shut()

    @contextmanager
    def _asking(self, seconds: float | None) -> Iterator[Any]:
        self._wire.allow(seconds)
        cursor = None
        try:
            cursor = self._driver.cursor()
            yield cursor
        except Broken as error:
            raise refusal_of_the_wire(str(error), self.connection) from error
        except pytds.Error as error:
            raise _refusal(error, _said(cursor) if cursor else [], self.connection) from error
        except ODD as error:
            raise refusal_of_the_wire(f"Unexpected: {error!r}", self.connection) from error


@contextmanager
def session(connection: Connection, program: str = PROGRAM) -> Iterator[Session]:
    """Open a session for as long as it is needed; raises Refusal with the reason in words.

    The server shows it under the name `program`, by which it can be found again.
    """
    refuse_ambiguous(connection, separators=",\\/", remedy=ONE_HOST, longest=LONGEST_NAME)
    wire = _reached(connection)
    try:
        driver = _logged_in(connection, wire, program)
        wire.is_in = True
        yield Session(connection, wire, driver)
    finally:
        with suppress(Broken, OSError):
            wire.close()  # a farewell would wait for a server that is gone


def _reached(connection: Connection) -> Wire:
    try:
        return Wire(connection)
    except Broken as error:
        raise refusal_of_the_wire(str(error), connection) from error


def _logged_in(connection: Connection, wire: Wire, program: str) -> Any:
    try:
        return pytds.connect(
            connection.host.replace("\\", ""),
            database=connection.dbname or "master",
            user=connection.username,
            password=connection.password,
            port=connection.port,
            autocommit=True,
            appname=program,
            login_timeout=0.001,  # it would only try again over the same wire, whose own time counts
            disable_connect_retry=True,
            sock=wire,
        )
    except Broken as error:
        raise refusal_of_the_wire(str(error), connection) from error
    except pytds.Error as error:
        raise _refusal(error, [], connection) from error
    except TimeoutError as error:  # the driver's second try; what the first one met is its cause
        raise _refusal(error.__cause__ or error, [], connection) from error
    except (OSError, *ODD) as error:
        raise refusal_of_the_wire(f"Unexpected: {error!r}", connection) from error


def typed(values: Sequence[Any]) -> list[Any] | None:
    """Texts as nvarchar of a length, which BACKUP takes for a device; the driver's own nvarchar(max) is a large object.

    None when there are no values: then the driver looks for no places for them either.
    """
    return [Param(type=TEXT, value=value) if isinstance(value, str) else value for value in values] or None


def _hear_out(cursor: Any) -> None:
    """Take in what comes after the rows; left there, the driver would answer it with an attention at the next question,
    and an error among it would never be seen."""
    while cursor.nextset():
        pass


def _refusal(error: BaseException, said: list[Said], connection: Connection) -> Refusal:
    number = getattr(error, "msg_no", 0)
    if number == LOGIN_FAILED and error.args[0] != error.text:  # more was said before: the login was right
        number = DATABASE_CLOSED
    if not any(message.is_error for message in said) and number:
        said = [Said(number, getattr(error, "text", str(error)), 16)]
    if any(message.is_error for message in said):
        return refusal_from(said, connection)
    return refusal_of_the_wire(f"Unexpected: {error}", connection)


def _said(cursor: Any) -> list[Said]:
    return [Said(error.msg_no, error.text, error.severity) for _, error in cursor.messages or ()]


def quoted_name(name: str) -> str:
    """An identifier as T-SQL takes it, whatever is in it."""
    return "[" + name.replace("]", "]]") + "]"


def quoted_text(text: str) -> str:
    """A text as T-SQL takes it where it takes no parameter."""
    return "N'" + text.replace("'", "''") + "'"
