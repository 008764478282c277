"""Cells that several lists share, so that an instance looks the same wherever it stands."""

from __future__ import annotations

from datetime import datetime

from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString
from django.utils.translation import gettext

from backups.engines import engine_of
from backups.models import BackupSet, Copy, Instance
from console.widgets import words
from console.widgets.labels import kind_of, place_of, translated


def instance(of: Instance) -> SafeString:
    tag = format_html(' <span class="tag">{}</span>', gettext("simulation")) if of.is_simulation else ""
    return format_html(
        '<a class="who" href="{}"><bdi>{}</bdi></a>{}<bdi class="id"><code>{}</code></bdi>',
        reverse("instances:page", args=[of.code]),
        of.name,
        tag,
        of.code,
    )


def engine(of: Instance) -> SafeString:
    label = f"{engine_of(of.engine).capabilities.label} {of.engine_version}".strip()
    return format_html("{}<small>{}</small>", label, translated(of.get_edition_display()))


def backup_set(of: BackupSet) -> SafeString:
    """Return the set's number, and its database where an engine backs up each by itself."""
    under = format_html("<small><bdi>{}</bdi></small>", of.database) if of.database else ""
    where = reverse("backup_sets:page", args=[of.pk])
    return format_html('<a class="who sid" href="{}"><bdi>{}</bdi></a>{}', where, of.pk, under)


def kind(of: BackupSet, *, of_secondary: bool = False) -> SafeString:
    """Return what a set is and how it was made; its instance comes along."""
    parts = [
        translated(of.method.capitalize()),
        gettext("copy-only") if of.is_copy_only else "",
        gettext("from the secondary") if of_secondary else "",
    ]
    under = " · ".join(part for part in parts if part)
    return format_html("{}<small>{}</small>", kind_of(of), under)


def copy_state(of: Copy, badge: SafeString) -> SafeString:
    """Return a copy's state and where it lies; the page's poller brings the state anew."""
    place = place_of(of.destination_store)
    return format_html('<div id="copy-{}">{}</div><small>{}</small>', of.pk, badge, place)


def time(at: datetime | None, now: datetime) -> SafeString:
    return format_html("{}<small>{}</small>", words.moment(at), words.ago(at, now))


def button(text: str, href: str, label: str, *, dialog: bool = True, name: str = "") -> SafeString:
    """Return a small button at the end of a row; `label` names what it is for, for screen readers.

    `name`: an id, so that the button keeps the focus when its row is drawn anew.
    """
    if not dialog:
        return format_html('<a class="btn small" href="{}" aria-label="{}">{}</a>', href, label, text)
    return format_html(
        '<a class="btn small"{3} href="{0}" hx-get="{0}" hx-target="#dialog-body" hx-push-url="false"'
        ' data-opens-dialog aria-label="{1}">{2}</a>',
        href,
        label,
        text,
        format_html(' id="{}"', name) if name else "",
    )


def settings(of: Instance, origin: str = "") -> SafeString:
    """Return the button that opens the settings of one instance; `origin`: the list it stands in."""
    where = f"{reverse('backup_settings:dialog')}?pick={of.pk}{f'&list={origin}' if origin else ''}"
    label = gettext("Settings for %(name)s") % {"name": of.name}
    return button(gettext("Settings"), where, label, name=f"settings-{of.pk}")


def buttons(*each: SafeString | str) -> SafeString:
    return format_html('<span class="acts">{}</span>', format_html_join("", "{}", ((one,) for one in each if one)))
