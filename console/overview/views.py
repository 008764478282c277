"""The first page: how many instances are protected, what is late or broken, and what moved last."""

from __future__ import annotations

from datetime import datetime

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.safestring import SafeString

from backups import access
from backups.models import BackupJob, BackupSet, Copy
from backups.oversight.protection import Protection
from console.widgets import proven
from console.widgets.glance import Glance
from console.widgets.instance_lists import instances_here
from console.widgets.polling import Poll, poll_for, with_badges
from console.widgets.progress import MOVING
from console.widgets.protected import protection_badge
from console.widgets.shell import chosen_region
from regions import clock
from regions.models import Store

MOST_SHOWN = 8


def page(request: HttpRequest) -> HttpResponse:
    glance = Glance(request)
    attention = _attention(glance)
    moving = _moving(request, glance.at)
    context = {
        "glance": glance,
        "attention": attention,
        "moving": moving,
        "poll": _poll(request, moving),
        "stores": Store.objects.attached().exists(),
        "may_attach": access.may_run_installation(request.user),
        "events": _recent(request, glance.at),
    }
    return render(request, "overview/page.html", context)


def progress(request: HttpRequest) -> HttpResponse:
    """Answer the page's one poller: what is on its way now."""
    moving = _moving(request, clock.now())
    return render(request, "overview/_progress.html", {"moving": moving, "poll": _poll(request, moving)})


def _attention(glance: Glance) -> list[tuple[Protection, SafeString, str]]:
    """Return who needs somebody, each with its state and its last proven restore."""
    shown = glance.attention[:MOST_SHOWN]
    proven.tell([found.instance for found in shown])
    at = glance.at
    return [(found, protection_badge(found, at), proven.proven(found.instance.proof, at)) for found in shown]


def _poll(request: HttpRequest, moving: list[Copy]) -> Poll:
    jobs = BackupJob.objects.filter(instance__in=instances_here(request))
    return poll_for(reverse("overview:progress"), moving, BackupSet.objects.none(), jobs)


def _moving(request: HttpRequest, at: datetime) -> list[Copy]:
    """Return copies on their way, those that move first."""
    region = chosen_region(request)
    copies = access.copies_for(request.user).filter(state__in=MOVING)
    copies = copies.filter(set__instance__region=region) if region else copies
    shown = list(copies.select_related("set__instance", "destination_store__region").order_by("pk")[:MOST_SHOWN])
    return proven.tell_named(with_badges(shown), at)


def _recent(request: HttpRequest, at: datetime) -> list:
    region = chosen_region(request)
    events = access.events_for(request.user).select_related("instance")
    shown = list((events.filter(instance__region=region) if region else events)[:MOST_SHOWN])
    return proven.tell_named(shown, at)
