from __future__ import annotations

from decimal import Decimal

import django_tables2 as tables
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext, ngettext
from django.utils.translation import gettext_lazy as _

from backups.models import BackupSet, Download
from billing import drill_down
from billing.drill_down import Part
from billing.models import DownloadCharge, ItemCode
from billing.statements import Fetched, Line, Total
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
        not_charged = words.not_charged(record.free_bytes, record.offset_bytes, record.resent_bytes)
        return format_html("{}<small>{}</small>", quantity(record.item, record.quantity), not_charged)

    def render_prices(self, record: Line) -> SafeString | str:
        return format_html("{}<small>{}</small>", *price(record)) if record.prices else "—"

    def render_amount(self, value: Decimal | None) -> SafeString:
        return format_html("<b>{}</b>", words.money(value))


class DrillTable(LineTable):
    """The same with the way to what stands behind each: copies, or downloads."""

    behind = ActionsColumn(verbose_name=_("Behind it"), attrs=ACTIONS)

    class Meta(LineTable.Meta):
        pass

    def render_behind(self, record: Line) -> SafeString | str:
        if not drill_down.can_be_drilled(record):
            return ""
        told_of = {name: said for name, said in told(record).items() if name != "group"}
        names = {"item": translated(record.item.label), "name": record.instance_name}
        page, short, label = "copies", gettext("Copies"), gettext("Copies behind %(item)s of %(name)s") % names
        if record.item == ItemCode.DOWNLOAD:
            page, short, label = "downloads", gettext("Downloads"), gettext("Downloads of %(name)s, one by one") % names
        return cells.button(short, self.reading.address(page, **told_of, group="", q=""), label, dialog=False)


def price(line: Line) -> tuple[str, str]:
    """Return the prices that held, in their order, and for what one is paid."""
    each = words.listed(f"${price.normalize():f}" for price in line.prices)
    return each, gettext("per GB and hour") if line.item == ItemCode.STORAGE else gettext("per GB")


def exactly(size: int) -> SafeString:
    """Return a size in words, and beneath it to the byte: so that a column can be added up."""
    exact = ngettext("%(n)s byte", "%(n)s bytes", size) % {"n": words.count(size)}
    return format_html("{}<small>{}</small>", words.size(size), exact)


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
        return exactly(record.part.bytes)


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


class DownloadRow:
    """A download as its line charges it, with its charge, and its meter where there is one."""

    def __init__(self, fetched: Fetched, charge: DownloadCharge, meter: Download | None, *, is_linked: bool) -> None:
        self.fetched, self.charge, self.meter, self.is_linked = fetched, charge, meter, is_linked


class DownloadTable(ConsoleTable):
    """The downloads behind a line of them."""

    caption = _("Downloads behind the line")

    at = tables.Column(accessor="fetched", verbose_name=_("Delivered"))
    file = tables.Column(accessor="charge", verbose_name=_("File"), attrs=LONG)
    set = tables.Column(accessor="charge", verbose_name=_("Backup set"))
    who = tables.Column(accessor="meter", verbose_name=_("By"), empty_values=())
    bytes = tables.Column(accessor="fetched", verbose_name=_("Distinct bytes"), attrs=NUMBER)
    free = tables.Column(accessor="fetched", verbose_name=_("By the free quota"), attrs=NUMBER)
    offset = tables.Column(accessor="fetched", verbose_name=_("By network plans"), attrs=NUMBER)
    amount = tables.Column(accessor="fetched", verbose_name=_("Amount"), attrs=NUMBER)

    class Meta(ConsoleTable.Meta):
        empty_text = _("No downloads.")

    def render_at(self, value: Fetched) -> str | SafeString:
        return words.moment(value.at, seconds=True)

    def render_file(self, record: DownloadRow) -> SafeString:
        name = record.meter.name if record.meter else record.charge.file.key.rpartition("/")[2]
        return format_html('<bdi class="keyed">{}</bdi>', name)

    def render_set(self, record: DownloadRow) -> SafeString:
        found = record.charge.set
        return cells.backup_set(found) if record.is_linked else format_html("<bdi>{}</bdi>", found.pk)

    def render_who(self, record: DownloadRow) -> SafeString | str:
        return format_html("<bdi>{}</bdi>", record.meter.user) if record.meter else "—"

    def render_bytes(self, value: Fetched) -> SafeString:
        return exactly(value.bytes)

    def render_free(self, value: Fetched) -> SafeString | str:
        return exactly(value.free_bytes) if value.free_bytes else "—"

    def render_offset(self, value: Fetched) -> SafeString | str:
        return exactly(value.offset_bytes) if value.offset_bytes else "—"

    def render_amount(self, value: Fetched) -> SafeString:
        price = gettext("$%(price)s per GB") % {"price": f"{value.price.amount.normalize():f}"} if value.price else ""
        return format_html("<b>{}</b><small>{}</small>", words.money(value.amount), price)
