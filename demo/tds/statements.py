"""What the simulation does at each statement of a batch, up to the parts of T-SQL that have modules of their own.

A statement that it does not know is refused with its own words, never passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from demo.tds import restoring, snapshotting, to_url, tokens
from demo.tds.answering import Answer
from demo.tds.backing_up import Run, order_from, read_text
from demo.tds.machine import Database, Session, SimulatedMachine
from demo.tds.parsing import Expressions
from demo.tds.selecting import Select, Selected
from demo.tds.tables import Tables
from demo.tds.tokens import Message
from demo.tds.words import Sentence, Wrong, near

SETTINGS_OF_SESSION = (
    "TEXTSIZE",
    "ROWCOUNT",
    "LANGUAGE",
    "DATEFORMAT",
    "LOCK_TIMEOUT",
    "TRANSACTION",
    "DEADLOCK_PRIORITY",
)


@dataclass
class Statements:
    """The statements of one batch; `given`: its parameters, by their names in lower case.

    `is_interrupted` is asked while one of them runs for long.
    """

    machine: SimulatedMachine
    session: Session
    sentence: Sentence
    given: Mapping[str, Any]
    answer: Answer
    is_interrupted: Callable[[], bool]

    def carry_out_next(self) -> int | None:
        """Carry out the statement that begins here and return how many rows it gave; raises Wrong, Interrupted."""
        begun, word = self.sentence.at, self.sentence.take()
        verb = word.plain
        if verb not in _WAYS and f"{verb} {self.sentence.next.plain}" in _WAYS:
            verb = f"{verb} {self.sentence.take().plain}"
        if verb not in _WAYS:
            self.sentence.at = begun
            raise Wrong(near(" ".join(one.value for one in self.sentence.words[begun : begun + 12])))
        return _WAYS[verb](self)

    def _select(self) -> int:
        return self._show(Select(self.sentence, Tables(self.machine, self.session), self.given).run())

    def _show(self, selected: Selected) -> int:
        self.answer.put(tokens.columns(selected.columns))
        for values in selected.rows:
            self.answer.put(tokens.row(selected.columns, values))
        return len(selected.rows)

    def _back_up(self) -> None:
        order = order_from(self.sentence, self.given)
        Run(self.machine, self.session, order, self._say, self.is_interrupted).run()

    def _say(self, said: Message) -> None:
        try:
            self.answer.say(said)
        except OSError:
            if not self.machine.is_deaf:
                raise

    def _restore(self) -> int | None:
        order = restoring.order_from(self.sentence, self.given)
        found = restoring.Run(self.machine, self.session, order, self.answer.say, self.is_interrupted).run()
        return self._show(found) if found else None

    def _drop(self) -> None:
        """DROP DATABASE of one that nobody is in, which takes the right that a restore takes; DROP CREDENTIAL."""
        if self.sentence.skips("CREDENTIAL"):
            self._needs_credentials()
            to_url.drop_credential(self.machine, self.sentence)
            return
        self.sentence.must("DATABASE")
        database = self._may_change(self.sentence.name(), "drop")
        if self.machine.is_used(database, but_for=self.session):
            said = f'Cannot drop database "{database.name}" because it is currently in use.'
            raise Wrong(Message(3702, said, 16, 4))
        snapshotting.remove_files(self.machine, database)
        del self.machine.databases[database.name.casefold()]

    def _alter(self) -> None:
        """ALTER DATABASE name SET SINGLE_USER WITH ROLLBACK IMMEDIATE: whoever else is in it is put out; or what
        `snapshotting` does."""
        name = self.sentence.name()
        if self.sentence.skips("SET", "SUSPEND_FOR_SNAPSHOT_BACKUP"):
            snapshotting.alter(self.machine, self.session, name, self.sentence, self.answer.say)
            return
        database = self._may_change(name, "alter")
        self.sentence.must("SET", "SINGLE_USER", "WITH", "ROLLBACK", "IMMEDIATE")
        for other in list(self.machine.sessions.values()):
            if other is not self.session and other.database == database.name:
                other.database = "master"
                other.killed.set()

    def _may_change(self, name: str, deed: str) -> Database:
        account, database = self.session.account, self.machine.database(name)
        if not database or not (account.creates or account.is_sysadmin):
            said = f"Cannot {deed} the database '{name}', because it does not exist or you do not have permission."
            raise Wrong(Message(3701, said, 11))
        return database

    def _create_credential(self) -> None:
        self._keep_credential(is_new=True)

    def _alter_credential(self) -> None:
        self._keep_credential(is_new=False)

    def _keep_credential(self, *, is_new: bool) -> None:
        self._needs_credentials()
        to_url.keep_credential(self.machine, self.sentence, lambda: read_text(self.sentence, self.given), is_new=is_new)

    def _needs_credentials(self) -> None:
        if not self.session.account.keeps_credentials:
            raise Wrong(Message(15247, "User does not have permission to perform this action.", 16))

    def _users(self) -> dict[str, set[str]]:
        return self.machine.database(self.session.database).users

    def _create_user(self) -> None:
        """CREATE USER name WITHOUT LOGIN."""
        name = self.sentence.name()
        self.sentence.must("WITHOUT", "LOGIN")
        if name in self._users():
            raise Wrong(Message(15023, f"User, group, or role '{name}' already exists in the current database.", 16))
        self._users()[name] = set()

    def _add_member(self) -> None:
        """ALTER ROLE role ADD MEMBER name."""
        role = self.sentence.name()
        self.sentence.must("ADD", "MEMBER")
        self._user(self.sentence.name()).add(role)

    def _execute_as(self) -> None:
        """EXECUTE AS USER = 'name': from here on the session may what this user of its database may."""
        self.sentence.must("AS", "USER", "=")
        name = read_text(self.sentence, self.given)
        self._user(name)
        self.session.user_name = name

    def _user(self, name: str) -> set[str]:
        if name not in self._users():
            raise Wrong(Message(15151, f"Cannot find the user '{name}', because it does not exist.", 16))
        return self._users()[name]

    def _kill(self) -> None:
        number = self.sentence.number()
        if not self.session.account.kills:
            raise Wrong(Message(6102, "User does not have permission to use the KILL statement.", 14))
        if number == self.session.number:
            raise Wrong(Message(6104, "Cannot use KILL to kill your own process."))
        found = self.machine.sessions.get(number)
        if not found:
            raise Wrong(Message(6106, f"Process ID {number} is not an active process ID."))
        found.killed.set()
        if self.machine.is_unaware:
            self.machine.leave(found)

    def _check(self) -> None:
        """DBCC CHECKDB (name) [WITH NO_INFOMSGS, ALL_ERRORMSGS]: says what `Database.faults` holds."""
        self.sentence.must("CHECKDB", "(")
        name = self.sentence.name()
        self.sentence.must(")")
        if self.sentence.skips("WITH"):
            self.sentence.name()
            while self.sentence.skips(","):
                self.sentence.name()
        database = self.machine.database(name)
        if not database or database.state != "ONLINE":
            raise Wrong(Message(911, f"Database '{name}' does not exist. (simulation)", state=11))
        for fault in database.faults:
            self.answer.say(Message(8928, fault, 16, 1))

    def _use(self) -> None:
        name = self.sentence.name()
        database = self.machine.database(name)
        if not database:
            said = f"Database '{name}' does not exist. Make sure that the name is entered correctly."
            raise Wrong(Message(911, said, state=1))
        self.answer.put(tokens.environment(1, database.name, self.session.database))
        self.session.database = database.name

    def _set(self) -> None:
        """Settings of the session: they are taken, and change nothing."""
        option = self.sentence.name().upper()
        if option == "TRANSACTION":
            self.sentence.must("ISOLATION", "LEVEL")
            self.sentence.name()
            self.sentence.skips("COMMITTED") or self.sentence.skips("UNCOMMITTED") or self.sentence.skips("READ")
        elif option in SETTINGS_OF_SESSION:
            self.sentence.skips("-")
            self.sentence.take()
        else:
            while self.sentence.skips(","):
                self.sentence.name()
            if not (self.sentence.skips("ON") or self.sentence.skips("OFF")):
                raise self.sentence.wrong()

    def _if(self) -> int | None:
        """IF expression statement: as drivers write `IF @@TRANCOUNT > 0 COMMIT TRAN`."""
        condition = Expressions(self.sentence, Tables(self.machine, self.session), self.given).expression()
        if condition.value({}):
            return self.carry_out_next()
        if self.sentence.take().plain in ("COMMIT", "ROLLBACK", "BEGIN"):
            self.sentence.skips("TRAN") or self.sentence.skips("TRANSACTION")
            return None
        raise self.sentence.wrong()

    def _begin(self) -> None:
        if not (self.sentence.skips("TRAN") or self.sentence.skips("TRANSACTION")):
            raise self.sentence.wrong()
        open_transaction(self.session, self.answer)

    def _end(self) -> None:
        self.sentence.skips("TRAN") or self.sentence.skips("TRANSACTION")
        close_transaction(self.session, self.answer, 9)


_WAYS: dict[str, Callable[[Statements], int | None]] = {
    "SELECT": Statements._select,
    "BACKUP": Statements._back_up,
    "RESTORE": Statements._restore,
    "DROP": Statements._drop,
    "CREATE CREDENTIAL": Statements._create_credential,
    "ALTER CREDENTIAL": Statements._alter_credential,
    "ALTER DATABASE": Statements._alter,
    "CREATE USER": Statements._create_user,
    "ALTER ROLE": Statements._add_member,
    "EXECUTE": Statements._execute_as,
    "KILL": Statements._kill,
    "DBCC": Statements._check,
    "USE": Statements._use,
    "SET": Statements._set,
    "BEGIN": Statements._begin,
    "COMMIT": Statements._end,
    "ROLLBACK": Statements._end,
    "IF": Statements._if,
}


def open_transaction(session: Session, answer: Answer) -> None:
    session.transaction = session.transaction or session.number
    answer.put(tokens.transaction(8, session.transaction))


def close_transaction(session: Session, answer: Answer, kind: int) -> None:
    """`kind`: as ENVCHANGE numbers it in [MS-TDS], 9 for committed, 10 for rolled back."""
    if session.transaction:
        answer.put(tokens.transaction(kind, session.transaction))
    session.transaction = 0
