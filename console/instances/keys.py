"""Finding files by a part of their key: a store's key is bytes, which `contains` does not know."""

from __future__ import annotations

from django.db.models import BinaryField, Func, IntegerField, Value


class Place(Func):
    """Where some bytes stand in others, from 1; 0: nowhere."""

    function = "POSITION"
    arg_joiner = " IN "
    output_field = IntegerField()


def as_bytes(text: str) -> Value:
    return Value(text.encode(), output_field=BinaryField())
