"""How Farshore says no: expected refusals are data, surprises keep their traceback."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass
class Refusal(Exception):
    """Something a person or program asked for and cannot have.

    `code` is for programs, `sentence` for people, `remedy` says what to do next, `field` names the form field it
    belongs beside ("" for the whole request).
    """

    code: str
    sentence: str
    remedy: str = ""
    field: str = ""

    def __post_init__(self) -> None:
        super().__init__(self.code, self.sentence, self.remedy, self.field)

    def __str__(self) -> str:
        return f"{self.sentence} {self.remedy}".strip()

    def as_dict(self) -> dict[str, str]:
        return asdict(self)
