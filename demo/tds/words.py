"""T-SQL as words: names, texts, numbers, parameters and signs; comments are left out."""

from __future__ import annotations

import re
from dataclasses import dataclass

from demo.tds.tokens import Message

WORD = re.compile(
    r"(?P<space>\s+|--[^\n]*|/\*.*?\*/)"
    r"|(?P<text>N?'(?:[^']|'')*')"
    r"|(?P<quoted>\[(?:[^\]]|\]\])*\]|\"(?:[^\"]|\"\")*\")"
    r"|(?P<binary>0x[0-9A-Fa-f]*)"
    r"|(?P<number>\d+(?:\.\d+)?)"
    r"|(?P<name>@{0,2}[\w#$]+)"
    r"|(?P<sign><>|<=|>=|!=|[-+*/%(),.;=<>])",
    re.DOTALL,
)


class Wrong(Exception):
    """A statement ends with this error; the words that came before it are already said."""

    def __init__(self, *said: Message) -> None:
        super().__init__(*said)
        self.said = said


@dataclass(frozen=True)
class Word:
    """`kind` is text, quoted, binary, number, name, sign or end; `value` without quotes; `plain` for comparing."""

    kind: str
    value: str
    plain: str


def words_of(batch: str) -> list[Word]:
    found, at = [], 0
    while at < len(batch):
        match = WORD.match(batch, at)
        if not match:
            raise Wrong(near(batch[at : at + 20]))
        at = match.end()
        if match.lastgroup != "space":
            found.append(_word(match.lastgroup, match.group()))
    return found


def _word(kind: str, said: str) -> Word:
    if kind == "text":
        return Word(kind, said[said.index("'") + 1 : -1].replace("''", "'"), "")
    if kind == "quoted":
        return Word(kind, said[1:-1].replace(said[-1] * 2, said[-1]), "")
    return Word(kind, said, said.upper())


def near(said: str) -> Message:
    return Message(102, f"Incorrect syntax near '{said}'. (simulation: this statement is not among those it knows)", 15)


END = Word("end", "", "")


class Sentence:
    """The words of a batch, read from the left; the place where nothing fits any more is the error's."""

    def __init__(self, words: list[Word]) -> None:
        self.words, self.at = words, 0

    @property
    def next(self) -> Word:
        return self.words[self.at] if self.at < len(self.words) else END

    @property
    def is_over(self) -> bool:
        return self.at >= len(self.words)

    def take(self) -> Word:
        word = self.next
        self.at += 1
        return word

    def sees(self, *plain: str) -> bool:
        """Whether the next words are these."""
        ahead = self.words[self.at : self.at + len(plain)]
        return [word.plain for word in ahead] == list(plain)

    def skips(self, *plain: str) -> bool:
        """Pass over these words if they are the next ones."""
        found = self.sees(*plain)
        self.at += len(plain) if found else 0
        return found

    def must(self, *plain: str) -> None:
        if not self.skips(*plain):
            raise self.wrong()

    def name(self) -> str:
        if self.next.kind not in ("name", "quoted"):
            raise self.wrong()
        return self.take().value

    def number(self) -> int:
        if self.next.kind != "number":
            raise self.wrong()
        return int(self.take().value)

    def dotted(self) -> str:
        """A name in parts, such as msdb.dbo.backupset."""
        parts = [self.name()]
        while self.skips("."):
            parts.append(self.name())
        return ".".join(parts)

    def dotted_star(self) -> str:
        """The table's name in front of `.*`."""
        found = self.name().lower()
        self.must(".", "*")
        return found

    def wrong(self) -> Wrong:
        return Wrong(near(self.next.value or "end of the batch"))
