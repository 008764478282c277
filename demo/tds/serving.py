"""The listening half: one thread for each connection, which reads messages and answers them.

    with SimulatedServer(machine) as server:      # server.port is where it listens
        …

It is a simulation: whoever connects is told so, in the program's name and with information message 50000 at login.
"""

from __future__ import annotations

import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from demo.tds import greeting, restoring, snapshotting, to_url, tokens
from demo.tds.backing_up import Interrupted, Run, order_from, read_text
from demo.tds.greeting import Encrypted, Encryption, Login
from demo.tds.machine import Account, Database, Session, SimulatedMachine
from demo.tds.packets import ATTENTION, BATCH, LOGIN7, PRELOGIN, RPC, TRANSACTION, Ended, Packets
from demo.tds.selecting import Select, Selected
from demo.tds.tables import Tables
from demo.tds.tokens import Message
from demo.tds.values import Reader
from demo.tds.words import Sentence, Wrong, near, words_of

PROGRAM = "Farshore's simulation"
WELCOME = Message(50000, "This is Farshore's simulation of a SQL Server. It keeps no data.", 0)
EXECUTE_SQL = 10
SEND_AT = 32 << 10
SETTINGS_OF_SESSION = (
    "TEXTSIZE",
    "ROWCOUNT",
    "LANGUAGE",
    "DATEFORMAT",
    "LOCK_TIMEOUT",
    "TRANSACTION",
    "DEADLOCK_PRIORITY",
)


class SimulatedServer:
    """Listens while it is entered. `certificate`: files of a chain and a key, for TLS."""

    def __init__(
        self,
        machine: SimulatedMachine,
        *,
        encryption: Encryption = Encryption.NOT_SUPPORTED,
        certificate: tuple[str, str] | None = None,
        address: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.machine, self.encryption = machine, encryption
        self.context = _context(certificate) if certificate else None
        self._address, self._listener, self._open = (address, port), None, set()
        self._lock = threading.Lock()

    @property
    def port(self) -> int:
        return self._listener.getsockname()[1]

    def __enter__(self) -> SimulatedServer:
        self._listener = socket.create_server(self._address, backlog=32)
        threading.Thread(target=self._listen, daemon=True, name="tds-simulation").start()
        return self

    def __exit__(self, *why: object) -> None:
        self.die()

    def die(self) -> None:
        """End as a killed server does: no farewell to anybody."""
        with self._lock:
            left = [self._listener, *self._open]
        for sock in left:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with self._lock:
                    self._open.add(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True, name="tds-connection").start()

    def _serve(self, client: socket.socket) -> None:
        try:
            with client, suppress(OSError, Ended, ValueError, LookupError, struct.error):
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                Conversation(self, client).run()
        finally:
            with self._lock:
                self._open.discard(client)


def _context(certificate: tuple[str, str]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # as TDS 7.4 has it on a real server
    context.load_cert_chain(*certificate)
    return context


@dataclass
class Answer:
    """The response that is being written; what is long is sent in parts."""

    packets: Packets
    server: str
    body: bytearray = field(default_factory=bytearray)

    def put(self, token: bytes) -> None:
        self.body += token
        if len(self.body) >= SEND_AT:
            self.flush(whole=False)

    def say(self, said: Message) -> None:
        self.put(tokens.message(said, self.server))
        if not said.is_error:
            self.flush(whole=False)  # progress is worth nothing later

    def flush(self, *, whole: bool = True) -> None:
        if whole or self.body:
            self.packets.send(bytes(self.body), whole=whole)
            self.body.clear()


class Conversation:
    """One connection from its PRELOGIN to its end."""

    def __init__(self, server: SimulatedServer, sock: socket.socket) -> None:
        self.server, self.machine, self.sock = server, server.machine, sock
        self.packets = Packets(sock)
        self.session: Session | None = None

    def run(self) -> None:
        login = self._greet()
        account = self._let_in(login)
        if not account:
            return
        with self.machine.entered(login.user, account, login.program, login.client) as self.session:
            self.packets.spid = self.session.number
            if self._welcome(login):
                self._converse()

    # Letting in

    def _greet(self) -> Login:
        kind, body = self.packets.read()
        if kind != PRELOGIN:
            raise Ended
        theirs = Encryption(greeting.options_of(body).get(greeting.ENCRYPTION, b"\2")[0] & 3)
        ours = self.server.encryption if self.server.context else Encryption.NOT_SUPPORTED
        agreed = greeting.agreed(ours, theirs)
        self.packets.send(greeting.prelogin(self.machine.version, agreed))
        if agreed is not Encryption.NOT_SUPPORTED:
            encrypted = Encrypted(self.sock, self.server.context)
            encrypted.shake_hands(self.packets)
            self.packets.pipe = encrypted
        kind, body = self.packets.read()
        if kind != LOGIN7:
            raise Ended
        if agreed is Encryption.OFF:
            self.packets.pipe = self.sock
        return greeting.login_of(body)

    def _let_in(self, login: Login) -> Account | None:
        account = self.machine.accounts.get(login.user.casefold())
        if account and account.password == login.password:
            return account
        answer = Answer(self.packets, self.machine.name)
        answer.say(Message(18456, f"Login failed for user '{login.user}'.", 14))
        answer.put(tokens.done(tokens.ERROR))
        answer.flush()
        return None

    def _welcome(self, login: Login) -> bool:
        answer = Answer(self.packets, self.machine.name)
        wanted = login.database or "master"
        database = self.machine.database(wanted)
        if not database or database.state != "ONLINE":
            answer.say(Message(4060, f'Cannot open database "{wanted}" requested by the login. The login failed.', 11))
            answer.say(Message(18456, f"Login failed for user '{login.user}'.", 14))
            answer.put(tokens.done(tokens.ERROR))
            answer.flush()
            return False
        self.session.database = database.name
        size = min(max(login.packet_size, 512), 32767)
        answer.put(tokens.environment(1, database.name, "master"))
        answer.put(
            tokens.message(Message(5701, f"Changed database context to '{database.name}'.", 0, 2), self.machine.name)
        )
        answer.put(tokens.collation())
        answer.put(tokens.environment(2, "us_english"))
        answer.put(tokens.message(WELCOME, self.machine.name))
        answer.put(tokens.login_ack(PROGRAM, self.machine.version))
        answer.put(tokens.environment(4, str(size), "4096"))
        if self.machine.routes_to:
            answer.put(tokens.routing(*self.machine.routes_to))
        answer.put(tokens.done())
        answer.flush()
        self.packets.size = size
        return True

    # Answering

    def _converse(self) -> None:
        while True:
            kind, body = self._next()
            answer = Answer(self.packets, self.machine.name)
            if kind == ATTENTION:
                answer.put(tokens.done(tokens.ATTENTION))
            elif kind in (BATCH, RPC, TRANSACTION):
                _WAYS[kind](self, _after_headers(body), answer)
            else:
                raise Ended
            answer.flush()

    def _next(self) -> tuple[int, bytes]:
        """Wait for the next message; a session that is killed meanwhile hears so and ends."""
        while not self.session.killed.is_set():
            if self._has_more() or select.select([self.sock], [], [], 0.05)[0]:
                return self.packets.read()
        self._die(Answer(self.packets, self.machine.name))
        raise Ended

    def _has_more(self) -> bool:
        pipe = self.packets.pipe
        return isinstance(pipe, Encrypted) and bool(pipe.tls.pending() or pipe.arriving.pending)

    def _batch(self, body: bytes, answer: Answer) -> None:
        self._carry_out(body.decode("utf-16-le"), {}, answer, in_procedure=False)

    def _call(self, body: bytes, answer: Answer) -> None:
        """sp_executesql; no other procedure is simulated."""
        reader = Reader(body)
        name, length = "", reader.number("H")
        if length == 0xFFFF:
            name = "sp_executesql" if (number := reader.number("H")) == EXECUTE_SQL else f"procedure {number}"
        else:
            name = reader.text(length)
        reader.number("H")
        arguments = []
        while not reader.is_over:
            named = reader.text(reader.number("B"))
            reader.number("B")
            arguments.append((named, reader.typed()))
        if name.rpartition(".")[2].lower() != "sp_executesql" or not arguments:
            answer.say(Message(2812, f"Could not find stored procedure '{name}'. (simulation)", 16, 62))
            answer.put(tokens.done(tokens.ERROR, kind=tokens.OF_PROCEDURE))
            return
        given = _by_name(str(arguments[1][1] or "") if len(arguments) > 1 else "", arguments[2:])
        self._carry_out(str(arguments[0][1]), given, answer, in_procedure=True)

    def _carry_out(self, batch: str, given: Mapping[str, Any], answer: Answer, *, in_procedure: bool) -> None:
        """Carry out the statements of a batch, one after the other, until one fails."""
        kind = tokens.IN_PROCEDURE if in_procedure else tokens.PLAIN
        status, count = 0, None
        try:
            sentence = Sentence(words_of(batch))
            while not sentence.is_over:
                if not sentence.skips(";"):
                    count = self._statement(sentence, given, answer)
                    while sentence.skips(";"):
                        pass
                    if in_procedure or not sentence.is_over:  # the last one's is the batch's own
                        answer.put(tokens.done(tokens.MORE, count, kind=kind))
                        count = None
        except Wrong as wrong:
            status = tokens.ERROR
            for said in wrong.said:
                answer.say(said)
        except Interrupted:
            self._interrupted(answer)
            return
        except (TypeError, ValueError, LookupError, ArithmeticError, AttributeError) as error:
            status = tokens.ERROR
            answer.say(Message(50000, f"The simulation cannot answer this: {error!r}"))
        if in_procedure:
            answer.put(tokens.return_status(int(bool(status))))
        last = tokens.OF_PROCEDURE if in_procedure else tokens.PLAIN
        answer.put(tokens.done(status, None if status else count, kind=last))

    def _interrupted(self, answer: Answer) -> None:
        """An attention is answered as one; a killed session hears why, and is cut off; nobody may be left to hear."""
        if self.session.killed.is_set():
            self._die(answer)
            raise Ended
        kind, _ = self.packets.read()
        if kind != ATTENTION:
            raise Ended
        answer.put(tokens.done(tokens.ATTENTION))

    def _die(self, answer: Answer) -> None:
        said = "Cannot continue the execution because the session is in the kill state."
        with suppress(OSError):
            answer.say(Message(596, said, 21))
            answer.put(tokens.done(tokens.ERROR))
            answer.flush()

    def _is_interrupted(self) -> bool:
        """Whether something has arrived while a statement runs: an attention, or the end."""
        if self.machine.is_deaf:
            return False
        return bool(self._has_more() or select.select([self.sock], [], [], 0)[0])

    # Statements

    def _statement(self, sentence: Sentence, given: Mapping[str, Any], answer: Answer) -> int | None:
        begun, word = sentence.at, sentence.take()
        ways: dict[str, Callable[[Sentence, Mapping[str, Any], Answer], int | None]] = {
            "SELECT": self._select,
            "BACKUP": self._back_up,
            "RESTORE": self._restore,
            "DROP": self._drop,
            "CREATE CREDENTIAL": self._create_credential,
            "ALTER CREDENTIAL": self._alter_credential,
            "ALTER DATABASE": self._alter,
            "CREATE USER": self._create_user,
            "ALTER ROLE": self._add_member,
            "EXECUTE": self._execute_as,
            "KILL": self._kill,
            "DBCC": self._check,
            "USE": self._use,
            "SET": self._set,
            "BEGIN": self._begin,
            "COMMIT": self._end,
            "ROLLBACK": self._end,
            "IF": self._if,
        }
        verb = word.plain
        if verb not in ways and f"{verb} {sentence.next.plain}" in ways:
            verb = f"{verb} {sentence.take().plain}"
        if verb not in ways:
            sentence.at = begun
            raise Wrong(near(" ".join(one.value for one in sentence.words[begun : begun + 12])))
        return ways[verb](sentence, given, answer)

    def _select(self, sentence: Sentence, given: Mapping[str, Any], answer: Answer) -> int:
        return self._show(Select(sentence, Tables(self.machine, self.session), given).run(), answer)

    def _show(self, selected: Selected, answer: Answer) -> int:
        answer.put(tokens.columns(selected.columns))
        for values in selected.rows:
            answer.put(tokens.row(selected.columns, values))
        return len(selected.rows)

    def _back_up(self, sentence: Sentence, given: Mapping[str, Any], answer: Answer) -> None:
        order = order_from(sentence, given)
        Run(self.machine, self.session, order, self._telling(answer), self._is_interrupted).run()

    def _telling(self, answer: Answer) -> Callable[[Message], None]:
        def say(said: Message) -> None:
            try:
                answer.say(said)
            except OSError:
                if not self.machine.is_deaf:
                    raise

        return say

    def _restore(self, sentence: Sentence, given: Mapping[str, Any], answer: Answer) -> int | None:
        order = restoring.order_from(sentence, given)
        found = restoring.Run(self.machine, self.session, order, answer.say, self._is_interrupted).run()
        return self._show(found, answer) if found else None

    def _drop(self, sentence: Sentence, given: Mapping[str, Any], answer: Answer) -> None:
        """DROP DATABASE of one that nobody is in, which takes the right that a restore takes; DROP CREDENTIAL."""
        if sentence.skips("CREDENTIAL"):
            self._needs_credentials()
            to_url.drop_credential(self.machine, sentence)
            return
        sentence.must("DATABASE")
        database = self._may_change(sentence.name(), "drop")
        if self.machine.is_used(database, but_for=self.session):
            said = f'Cannot drop database "{database.name}" because it is currently in use.'
            raise Wrong(Message(3702, said, 16, 4))
        snapshotting.remove_files(self.machine, database)
        del self.machine.databases[database.name.casefold()]

    def _alter(self, sentence: Sentence, given: Mapping[str, Any], answer: Answer) -> None:
        """ALTER DATABASE name SET SINGLE_USER WITH ROLLBACK IMMEDIATE: whoever else is in it is put out; or what
        `snapshotting` does."""
        name = sentence.name()
        if sentence.skips("SET", "SUSPEND_FOR_SNAPSHOT_BACKUP"):
            snapshotting.alter(self.machine, self.session, name, sentence, answer.say)
            return
        database = self._may_change(name, "alter")
        sentence.must("SET", "SINGLE_USER", "WITH", "ROLLBACK", "IMMEDIATE")
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

    def _create_credential(self, sentence: Sentence, given: Mapping[str, Any], answer: Answer) -> None:
        self._keep_credential(sentence, given, is_new=True)

    def _alter_credential(self, sentence: Sentence, given: Mapping[str, Any], answer: Answer) -> None:
        self._keep_credential(sentence, given, is_new=False)

    def _keep_credential(self, sentence: Sentence, given: Mapping[str, Any], *, is_new: bool) -> None:
        self._needs_credentials()
        to_url.keep_credential(self.machine, sentence, lambda: read_text(sentence, given), is_new=is_new)

    def _needs_credentials(self) -> None:
        if not self.session.account.keeps_credentials:
            raise Wrong(Message(15247, "User does not have permission to perform this action.", 16))

    def _users(self) -> dict[str, set[str]]:
        return self.machine.database(self.session.database).users

    def _create_user(self, sentence: Sentence, given: Mapping[str, Any], answer: Answer) -> None:
        """CREATE USER name WITHOUT LOGIN."""
        name = sentence.name()
        sentence.must("WITHOUT", "LOGIN")
        if name in self._users():
            raise Wrong(Message(15023, f"User, group, or role '{name}' already exists in the current database.", 16))
        self._users()[name] = set()

    def _add_member(self, sentence: Sentence, given: Mapping[str, Any], answer: Answer) -> None:
        """ALTER ROLE role ADD MEMBER name."""
        role = sentence.name()
        sentence.must("ADD", "MEMBER")
        self._user(sentence.name()).add(role)

    def _execute_as(self, sentence: Sentence, given: Mapping[str, Any], answer: Answer) -> None:
        """EXECUTE AS USER = 'name': from here on the session may what this user of its database may."""
        sentence.must("AS", "USER", "=")
        name = read_text(sentence, given)
        self._user(name)
        self.session.user_name = name

    def _user(self, name: str) -> set[str]:
        if name not in self._users():
            raise Wrong(Message(15151, f"Cannot find the user '{name}', because it does not exist.", 16))
        return self._users()[name]

    def _kill(self, sentence: Sentence, given: Mapping[str, Any], answer: Answer) -> None:
        number = sentence.number()
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

    def _check(self, sentence: Sentence, given: Mapping[str, Any], answer: Answer) -> None:
        """DBCC CHECKDB (name) [WITH NO_INFOMSGS, ALL_ERRORMSGS]: says what `Database.faults` holds."""
        sentence.must("CHECKDB", "(")
        name = sentence.name()
        sentence.must(")")
        if sentence.skips("WITH"):
            sentence.name()
            while sentence.skips(","):
                sentence.name()
        database = self.machine.database(name)
        if not database or database.state != "ONLINE":
            raise Wrong(Message(911, f"Database '{name}' does not exist. (simulation)", state=11))
        for fault in database.faults:
            answer.say(Message(8928, fault, 16, 1))

    def _use(self, sentence: Sentence, given: Mapping[str, Any], answer: Answer) -> None:
        name = sentence.name()
        database = self.machine.database(name)
        if not database:
            said = f"Database '{name}' does not exist. Make sure that the name is entered correctly."
            raise Wrong(Message(911, said, state=1))
        answer.put(tokens.environment(1, database.name, self.session.database))
        self.session.database = database.name

    def _set(self, sentence: Sentence, given: Mapping[str, Any], answer: Answer) -> None:
        """Settings of the session: they are taken, and change nothing."""
        option = sentence.name().upper()
        if option == "TRANSACTION":
            sentence.must("ISOLATION", "LEVEL")
            sentence.name()
            sentence.skips("COMMITTED") or sentence.skips("UNCOMMITTED") or sentence.skips("READ")
        elif option in SETTINGS_OF_SESSION:
            sentence.skips("-")
            sentence.take()
        else:
            while sentence.skips(","):
                sentence.name()
            if not (sentence.skips("ON") or sentence.skips("OFF")):
                raise sentence.wrong()

    def _if(self, sentence: Sentence, given: Mapping[str, Any], answer: Answer) -> int | None:
        """IF expression statement: as drivers write `IF @@TRANCOUNT > 0 COMMIT TRAN`."""
        condition = Select(sentence, Tables(self.machine, self.session), given).expression()
        if condition.value({}):
            return self._statement(sentence, given, answer)
        if sentence.take().plain in ("COMMIT", "ROLLBACK", "BEGIN"):
            sentence.skips("TRAN") or sentence.skips("TRANSACTION")
            return None
        raise sentence.wrong()

    def _begin(self, sentence: Sentence, given: Mapping[str, Any], answer: Answer) -> None:
        if not (sentence.skips("TRAN") or sentence.skips("TRANSACTION")):
            raise sentence.wrong()
        self._open(answer)

    def _end(self, sentence: Sentence, given: Mapping[str, Any], answer: Answer) -> None:
        sentence.skips("TRAN") or sentence.skips("TRANSACTION")
        self._close(answer, 9)

    def _open(self, answer: Answer) -> None:
        self.session.transaction = self.session.transaction or self.session.number
        answer.put(tokens.transaction(8, self.session.transaction))

    def _close(self, answer: Answer, kind: int) -> None:
        if self.session.transaction:
            answer.put(tokens.transaction(kind, self.session.transaction))
        self.session.transaction = 0

    def _transact(self, body: bytes, answer: Answer) -> None:
        """Transaction manager requests ([MS-TDS] 2.2.6.9): 5 begins, 7 commits, 8 rolls back."""
        asked = struct.unpack_from("<H", body)[0]
        if asked == 5:
            self._open(answer)
        elif asked in (7, 8):
            self._close(answer, 9 if asked == 7 else 10)
        answer.put(tokens.done())


_WAYS: dict[int, Callable[[Conversation, bytes, Answer], None]] = {
    BATCH: Conversation._batch,
    RPC: Conversation._call,
    TRANSACTION: Conversation._transact,
}


def _after_headers(body: bytes) -> bytes:
    """Leave out ALL_HEADERS, which say which transaction a request belongs to."""
    return body[struct.unpack_from("<I", body)[0] :]


def _by_name(declared: str, arguments: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Parameters by their names in lower case; those without a name have it from the declaration's order."""
    names = [part.split()[0] for part in declared.split(",") if part.strip().startswith("@")]
    found = {}
    for number, (name, value) in enumerate(arguments):
        found[(name or names[number]).lower()] = value
    return found
