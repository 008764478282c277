"""Two columns Django has no name for: a store's key (any bytes) and a position in an engine's log."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.core.exceptions import ValidationError
from django.db import models


class StoreKeyField(models.BinaryField):
    """An object's key in its store: `str` in Python (undecodable bytes as surrogate escapes), bytea in the database."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs.setdefault("editable", False)
        super().__init__(*args, **kwargs)

    def get_prep_value(self, value: Any) -> Any:
        return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> str | None:
        return None if value is None else bytes(value).decode("utf-8", "surrogateescape")

    def to_python(self, value: Any) -> Any:
        return bytes(value).decode("utf-8", "surrogateescape") if isinstance(value, (bytes, memoryview)) else value

    def get_default(self) -> Any:
        return self.default if self.has_default() else ""


class PositionField(models.DecimalField):
    """What an engine calls a position, as an integer: numeric(25,0), as msdb prints an LSN (design.md §3)."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        kwargs["max_digits"], kwargs["decimal_places"] = 25, 0
        super().__init__(*args, **kwargs)

    def deconstruct(self) -> Any:
        name, path, args, kwargs = super().deconstruct()
        del kwargs["max_digits"], kwargs["decimal_places"]
        return name, path, args, kwargs

    def from_db_value(self, value: Decimal | None, expression: Any, connection: Any) -> int | None:
        return None if value is None else int(value)

    def to_python(self, value: Any) -> int | None:
        if value in (None, ""):
            return None
        try:
            return int(value)
        except (TypeError, ValueError) as error:
            raise ValidationError("A position is a whole number.") from error
