from __future__ import annotations

from decimal import Decimal

import django_tables2 as tables
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from backups.models import BackupSet
from billing import drill_down
from billing.drill_down import Part
from billing.models import ItemCode
from billing.statements import Line, Total
from console.bills.forms import told
from console.bills.reading import Reading
from console.bills.shares import Share, route_name
from console.widgets import cells, words
from console.widgets.labels import kind_of, translated
from console.widgets.tables import ACTIONS, LONG, NUMBER, ActionsColumn, ConsoleTable


def amount(total: Total) -> SafeString | str:
    """Return what lines come to, and how many of them have no price; without any line a dash."""
    if not total.lines:
        return "—"
    if total.unpriced == len(total.lines):
        return words.money(None)
    under = ngettext("%(n)s line without a price", "%(n)s lines without a price", total.unpriced)
    without = format_html("<small>{}</small>", under % {"n": total.unpriced}) if total.unpriced else ""
    return format_html("{}{}", words.money(total.amount), without)


def quantity(item: ItemCode, quantity: int) -> str | SafeString:
    said = words.gb_hours(quantity) if item == ItemCode.STORAGE else words.in_words(quantity)
    return format_html("<bdi>{}</bdi>", said)


class ShareTable(ConsoleTable):
    """A split bill: a column for each item code, and their sum."""

    kind, caption = "instance", _("By instance")

    name = tables.Column(verbose_name=_("Instance"), attrs=LONG)
    storage = tables.Column(accessor="total", verbose_name=_("Storage"), attrs=NUMBER)
    traffic = tables.Column(accessor="total", verbose_name=_("Traffic"), attrs=NUMBER)
    downloads = tables.Column(accessor="total", verbose_name=_("Downloads"), attrs=NUMBER)
    amount = tables.Column(accessor="total", verbose_name=_("Amount"), attrs=NUMBER)

    class Meta(ConsoleTable.Meta):
        empty_text = _("Nothing was charged in this month.")

    def __init__(self, rows: list[Share], *, reading: Reading, **extra: object) -> None:
        super().__init__(rows, **extra)
        self.reading = reading

    def render_name(self, record: Share) -> SafeString:
        under = format_html('<bdi class="id"><code>{}</code></bdi>', record.under) if record.under else ""
        where = self.reading.address("lines", **{self.kind: record.said})
        return format_html('<a class="who" href="{}"><bdi>{}</bdi></a>{}', where, record.name, under)

    def render_storage(self, record: Share) -> SafeString | str:
        return amount(record.of(ItemCode.STORAGE))

    def render_traffic(self, record: Share) -> SafeString | str:
        return amount(record.of(ItemCode.TRAFFIC))

    def render_downloads(self, record: Share) -> SafeString | str:
        return amount(record.of(ItemCode.DOWNLOAD))

    def render_amount(self, value: Total) -> SafeString | str:
        return format_html('<span class="sum">{}</span>', amount(value))


class RouteTable(ShareTable):
    kind, caption = "route", _("By route")
    name = tables.Column(verbose_name=_("Route"), attrs=LONG)

    class Meta(ShareTable.Meta):
        pass


class GroupTable(ShareTable):
    kind, caption = "group", _("By resource group")
    name = tables.Column(verbose_name=_("Resource group"), attrs=LONG)

    class Meta(ShareTable.Meta):
        pass


class ItemTable(ShareTable):
    """By item code: how much of it was used, and what of that was not charged."""

    kind, caption = "item", _("By item code")
    name = tables.Column(verbose_name=_("Item code"), attrs=LONG)
    storage = traffic = downloads = None
    lines = tables.Column(accessor="total", verbose_name=_("Lines"), attrs=NUMBER)
    used = tables.Column(accessor="total", verbose_name=_("Used"), attrs=NUMBER)
    charged = tables.Column(accessor="total", verbose_name=_("Charged"), attrs=NUMBER)

    class Meta(ShareTable.Meta):
        sequence = ("name", "lines", "used", "charged", "amount")

    def render_lines(self, value: Total) -> str:
        return words.count(len(value.lines))

    def render_used(self, value: Total) -> str | SafeString:
        return quantity(value.lines[0].item, sum(line.quantity for line in value.lines))

    def render_charged(self, value: Total) -> str | SafeString:
        return quantity(value.lines[0].item, sum(line.charged for line in value.lines))


TABLES = {"instance": ShareTable, "route": RouteTable, "item": ItemTable, "group": GroupTable}


class LineTable(ConsoleTable):
    """Lines as they stand in the statement."""

    caption = _("Lines")

    item = tables.Column(verbose_name=_("Item code"), attrs=LONG)
    instance_name = tables.Column(verbose_name=_("Instance"), attrs=LONG)
    route = tables.Column(verbose_name=_("Route"))
    quantity = tables.Column(verbose_name=_("Used"), attrs=NUMBER)
    prices = tables.Column(verbose_name=_("Price"), attrs=NUMBER, empty_values=())
    amount = tables.Column(verbose_name=_("Amount"), attrs=NUMBER, empty_values=())

    class Meta(ConsoleTable.Meta):
        empty_text = _("No lines in this month.")

    def __init__(self, rows: list[Line], *, reading: Reading, **extra: object) -> None:
        super().__init__(rows, **extra)
        self.reading = reading

    def render_item(self, value: ItemCode, record: Line) -> SafeString:
        note = format_html("<small>{}</small>", record.sentence) if record.sentence else ""
        return format_html('{}<bdi class="id"><code>{}</code></bdi>{}', translated(value.label), value.value, note)

    def render_instance_name(self, value: str, record: Line) -> SafeString:
        return format_html("<bdi>{}</bdi><small><bdi>{}</bdi></small>", value, record.group_name)

    def render_route(self, record: Line) -> str:
        return route_name(self.reading, record)

    def render_quantity(self, record: Line) -> SafeString:
        return format_html("{}<small>{}</small>", quantity(record.item, record.quantity), not_charged(record))

    def render_prices(self, record: Line) -> SafeString | str:
        return format_html("{}<small>{}</small>", *price(record)) if record.prices else "—"

    def render_amount(self, value: Decimal | None) -> SafeString:
        return format_html("<b>{}</b>", words.money(value))


class DrillTable(LineTable):
    """The same with the way to the copies behind each."""

    copies = ActionsColumn(verbose_name=_("Copies"), attrs=ACTIONS)

    class Meta(LineTable.Meta):
        pass

    def render_copies(self, record: Line) -> SafeString | str:
        if not drill_down.can_be_drilled(record):
            return ""
        told_of = {name: said for name, said in told(record).items() if name != "group"}
        where = self.reading.address("copies", **told_of, group="", q="")
        names = {"item": translated(record.item.label), "name": record.instance_name}
        label = gettext("Copies behind %(item)s of %(name)s") % names
        return cells.button(gettext("Copies"), where, label, dialog=False)


def not_charged(line: Line) -> str:
    """Return what of a line the free quota and plans took, and what was sent again: in bytes, for it cost nothing."""
    parts = (
        (gettext("free: %(size)s"), line.free_bytes),
        (gettext("by network plans: %(size)s"), line.offset_bytes),
        (gettext("sent again: %(size)s"), line.resent_bytes),
    )
    return " · ".join(said % {"size": words.in_words(size)} for said, size in parts if size)


def price(line: Line) -> tuple[str, str]:
    """Return the prices that held, in their order, and for what one is paid."""
    each = ", ".join(f"${price.normalize():f}" for price in line.prices)
    return each, gettext("per GB and hour") if line.item == ItemCode.STORAGE else gettext("per GB")


class CopyRow:
    """A part of a line, with its backup set."""

    def __init__(self, part: Part, found: BackupSet, *, is_linked: bool) -> None:
        self.part, self.set, self.is_linked = part, found, is_linked


class SentTable(ConsoleTable):
    """The copies behind a line of traffic."""

    caption = _("Copies behind the line")

    set = tables.Column(verbose_name=_("Backup set"))
    kind = tables.Column(accessor="set", verbose_name=_("Kind"))
    finished = tables.Column(accessor="set", verbose_name=_("Backed up at"))
    arrived = tables.Column(accessor="part", verbose_name=_("Arrived"))
    bytes = tables.Column(accessor="part", verbose_name=_("Size"), attrs=NUMBER)

    class Meta(ConsoleTable.Meta):
        empty_text = _("No copies.")

    def render_set(self, record: CopyRow) -> SafeString:
        return cells.backup_set(record.set) if record.is_linked else format_html("<bdi>{}</bdi>", record.set.pk)

    def render_kind(self, record: CopyRow) -> str:
        return kind_of(record.set)

    def render_finished(self, record: CopyRow) -> str | SafeString:
        return words.moment(record.set.finished_at)

    def render_arrived(self, record: CopyRow) -> str | SafeString:
        return words.moment(record.part.ended_at, seconds=True)

    def render_bytes(self, record: CopyRow) -> SafeString:
        exact = ngettext("%(n)s byte", "%(n)s bytes", record.part.bytes) % {"n": words.count(record.part.bytes)}
        return format_html("{}<small>{}</small>", words.size(record.part.bytes), exact)


class StoredTable(SentTable):
    """The copies behind a line of storage."""

    arrived = None
    began = tables.Column(accessor="part", verbose_name=_("Charged from"))
    ended = tables.Column(accessor="part", verbose_name=_("Until"))
    stored = tables.Column(accessor="part", verbose_name=_("Stored"), attrs=NUMBER)

    class Meta(SentTable.Meta):
        sequence = ("set", "kind", "finished", "bytes", "began", "ended", "stored")

    def render_began(self, record: CopyRow) -> str | SafeString:
        return words.moment(record.part.began_at, seconds=True)

    def render_ended(self, record: CopyRow) -> str | SafeString:
        return words.moment(record.part.ended_at, seconds=True)

    def render_stored(self, record: CopyRow) -> SafeString:
        exact = gettext("%(n)s byte-seconds") % {"n": words.count(record.part.quantity)}
        return format_html("<bdi>{}</bdi><small>{}</small>", words.gb_hours(record.part.quantity), exact)
