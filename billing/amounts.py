"""Money out of integers (R-4.1, R-4.2). Pure: quantities go in as integers and come out rounded once, to cents."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, ROUND_UP, Context, Decimal

from django.conf import settings

CENT, MILLIONTH = Decimal("0.01"), Decimal("0.000001")
HOUR_SECONDS = 3600
EXACT = Context(prec=60)  # a fleet's byte-seconds of a month have 22 digits; nothing may be lost before the rounding


def to_cents(amount: Decimal) -> Decimal:
    """Round half-up to whole cents, as a statement line does."""
    return amount.quantize(CENT, rounding=ROUND_HALF_UP, context=EXACT)


def estimated(cost: Decimal) -> Decimal:
    """Round what will be owed to cents; of less than half a cent something is left, for it is not free."""
    return to_cents(cost) or cost.quantize(MILLIONTH, rounding=ROUND_UP, context=EXACT)


def storage_cost(byte_seconds: int, price: Decimal) -> Decimal:
    """Return the unrounded cost of storage at `price` USD per GB and hour."""
    return EXACT.divide(EXACT.multiply(Decimal(byte_seconds), price), Decimal(settings.GB * HOUR_SECONDS))


def storage_amount(byte_seconds: int, price: Decimal) -> Decimal:
    """Return what storage costs at `price` USD per GB and hour, in cents."""
    return to_cents(storage_cost(byte_seconds, price))


def traffic_cost(traffic_bytes: int, price: Decimal) -> Decimal:
    """Return the unrounded cost of bytes over a network at `price` USD per GB."""
    return EXACT.divide(EXACT.multiply(Decimal(traffic_bytes), price), Decimal(settings.GB))


def traffic_amount(traffic_bytes: int, price: Decimal) -> Decimal:
    """Return what bytes over a network cost at `price` USD per GB, in cents."""
    return to_cents(traffic_cost(traffic_bytes, price))
