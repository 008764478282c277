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
from typing import Any

from demo.tds import greeting, tokens
from demo.tds.answering import Answer
from demo.tds.backing_up import Interrupted
from demo.tds.greeting import Encrypted, Encryption, Login
from demo.tds.machine import Account, Session, SimulatedMachine
from demo.tds.packets import ATTENTION, BATCH, LOGIN7, PRELOGIN, RPC, TRANSACTION, Ended, Packets
from demo.tds.statements import Statements, close_transaction, open_transaction
from demo.tds.tokens import Message
from demo.tds.values import Reader
from demo.tds.words import Sentence, Wrong, words_of

PROGRAM = "Farshore's simulation"
WELCOME = Message(50000, "This is Farshore's simulation of a SQL Server. It keeps no data.", 0)
EXECUTE_SQL = 10


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
            statements = Statements(self.machine, self.session, sentence, given, answer, self._is_interrupted)
            while not sentence.is_over:
                if not sentence.skips(";"):
                    count = statements.carry_out_next()
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

    def _transact(self, body: bytes, answer: Answer) -> None:
        """Transaction manager requests ([MS-TDS] 2.2.6.9): 5 begins, 7 commits, 8 rolls back."""
        asked = struct.unpack_from("<H", body)[0]
        if asked == 5:
            open_transaction(self.session, answer)
        elif asked in (7, 8):
            close_transaction(self.session, answer, 9 if asked == 7 else 10)
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
