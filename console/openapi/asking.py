"""The parameters of a call, in the types the contract declares; what is missing or malformed is said by its name."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TypeVar

from console.openapi import contract
from console.openapi.calls import is_text
from console.openapi.faults import Fault, bad_format, missing, unreadable

TIMES = ("%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%dT%H:%MZ")
WORDS = {"true": True, "1": True, "false": False, "0": False}
LARGEST = 2**63 - 1
PAGE_SIZES = (30, 50, 100)
Chosen = TypeVar("Chosen")


@dataclass(frozen=True)
class Asked:
    """What was asked for. Parameters that nobody declared are tolerated and never looked at."""

    operation: str
    given: Mapping[str, str]

    @classmethod
    def of(cls, operation: str, parameters: Mapping[str, str]) -> Asked:
        """Keep what the operation declares; raises Fault for what it cannot do without or cannot read."""
        declared = contract.request_of(operation)
        given = {name: parameters[name] for name in declared if parameters.get(name)}
        for name, facts in declared.items():
            if facts.get("required") and name not in given:
                raise missing(name)
        if broken := [name for name, value in given.items() if not is_text(value)]:
            raise unreadable(f"{broken[0]} is no UTF-8 text.")
        asked = cls(operation, given)
        asked._read_all(declared)
        return asked

    def _read_all(self, declared: contract.Fields) -> None:
        readers: dict[str, Callable[[str], object]] = {"int": self.number, "bool": self.flag}
        for name in self.given:
            if reader := readers.get(declared[name]["type"]):
                reader(name)

    def text(self, name: str, usual: str = "") -> str:
        return self.given.get(name, usual)

    def number(self, name: str) -> int | None:
        if name not in self.given:
            return None
        said = self.given[name]
        is_whole = len(said) <= 20 and said.isascii() and said.removeprefix("-").isdecimal()
        if not is_whole or abs(int(said)) > LARGEST:
            raise bad_format(name, "it is a whole number")
        return int(said)

    def flag(self, name: str) -> bool | None:
        if name not in self.given:
            return None
        said = self.given[name].lower()
        if said not in WORDS:
            raise bad_format(name, "it is true or false")
        return WORDS[said]

    def among(self, name: str, choices: Mapping[str, Chosen], code: str = "") -> Chosen | None:
        """Return what the word given means; raises Fault, with a code of its own where there is one."""
        if name not in self.given:
            return None
        if self.given[name] not in choices:
            fault = bad_format(name, f"it is one of {', '.join(choices)}")
            raise Fault(code or fault.code, 400, fault.message)
        return choices[self.given[name]]

    def moment(self, name: str) -> datetime | None:
        """Return a time, UTC, given to the second or to the minute."""
        if name not in self.given:
            return None
        for form in TIMES:
            try:
                return datetime.strptime(self.given[name], form).replace(tzinfo=UTC)
            except ValueError:
                continue
        code = f"Invalid{name}.Format"
        raise Fault(code, 400, f"{name} is not well formatted: it is yyyy-MM-ddTHH:mm:ssZ or yyyy-MM-ddTHH:mmZ.")

    def span(self) -> tuple[datetime | None, datetime | None]:
        start, end = self.moment("StartTime"), self.moment("EndTime")
        if start and end and end < start:
            raise Fault("InvalidEndTime.Format", 400, "EndTime lies before StartTime.")
        return start, end


@dataclass(frozen=True)
class Page:
    """Which page is wanted, counted from 1."""

    number: int
    size: int

    @property
    def rows(self) -> slice:
        return slice((self.number - 1) * self.size, self.number * self.size)


def page_of(asked: Asked, *, any_size: bool = False, number: str = "PageNumber") -> Page:
    """Return the page asked for; raises Fault."""
    at = asked.number(number) or 1
    size = asked.number("PageSize")
    size = PAGE_SIZES[0] if size is None else size
    if not 1 <= at <= 1_000_000:
        raise bad_format(number, "it counts from 1")
    if not (1 <= size <= 100 if any_size else size in PAGE_SIZES):
        raise bad_format("PageSize", "it is 1 to 100" if any_size else "it is 30, 50 or 100")
    return Page(at, size)
