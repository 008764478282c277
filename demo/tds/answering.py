"""The response that is being written to one message."""

from __future__ import annotations

from dataclasses import dataclass, field

from demo.tds import tokens
from demo.tds.packets import Packets
from demo.tds.tokens import Message

SEND_AT = 32 << 10  # bytes


@dataclass
class Answer:
    """Tokens on their way to the client; what is long is sent in parts."""

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
