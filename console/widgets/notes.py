"""Sentences that are true of some instances, each said once however many they are of (R-6.1, R-6.2, R-9.2)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from django.utils.translation import gettext

from console.widgets import words

MOST_NAMED, NAMED_OF_MORE = 5, 3

Template = str | Callable[[int], str]
Item = tuple[str, tuple[str, ...]]  # an instance, and which of its databases, or what else of it


@dataclass
class Note:
    """`sentence` has a place for `name`, and for `n` where it counts; `all_of` names everyone where it cannot.

    `template` is marked for translation, or says the sentence for a count.
    """

    template: Template
    named: tuple[tuple[str, str], ...] = ()
    items: list[Item] = field(default_factory=list)
    n: int = 0

    @property
    def sentence(self) -> str:
        template = self.template(self.n) if callable(self.template) else gettext(self.template)
        return template % {**dict(self.named), "name": in_few_words(list(map(_in_few_words, self.items))), "n": self.n}

    @property
    def bare(self) -> str:
        """Return the sentence of a remark, which has no place for a name."""
        return dict(self.named)["sentence"]

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.items]

    @property
    def all_of(self) -> list[str]:
        """Return every instance with all that is said of it, [] where the sentence has said so itself."""
        is_cut = len(self.items) > MOST_NAMED or any(len(parts) > MOST_NAMED for _, parts in self.items)
        return [f"{name}: {', '.join(parts)}" if parts else name for name, parts in self.items] if is_cut else []


class Notes:
    """The notes of one dialog, in the order in which each was first said."""

    def __init__(self) -> None:
        self._notes: dict[tuple, Note] = {}

    def __iter__(self) -> Iterator[Note]:
        return iter(self._notes.values())

    @property
    def is_short(self) -> bool:
        return len(self._notes) <= MOST_NAMED

    def say(self, template: Template, name: str, parts: Sequence[str] = (), *, n: int = 0, **named: str) -> None:
        """Say a sentence of one instance; the same of another joins it."""
        key = template, tuple(sorted(named.items()))
        note = self._notes.setdefault(key, Note(*key))
        note.items.append((name, tuple(parts)))
        note.n += n


def in_few_words(names: Sequence[str]) -> str:
    """Name them all where they are few, else the first and how many more."""
    if len(names) <= MOST_NAMED:
        return words.listed(names)
    more = gettext(" and %(n)s more") % {"n": len(names) - NAMED_OF_MORE}
    return words.listed(names[:NAMED_OF_MORE]) + more


def _in_few_words(item: Item) -> str:
    name, parts = item
    return gettext("%(name)s (%(parts)s)") % {"name": name, "parts": in_few_words(parts)} if parts else name
