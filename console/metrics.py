"""What `manage.py status` counts, and how the webhooks stand, as Prometheus reads it, for whoever brings METRICS_TOKEN.

A token and not an address: behind a proxy on this machine everybody comes from it. Labels hold regions, states and
codes, never a name of an owner.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.core.cache import cache
from django.http import Http404, HttpRequest, HttpResponse

from backups.oversight import status
from console.webhooks.standing import Standing, standing
from regions.models import Store

KEPT_SECONDS = 10  # several scrapers ask the database once
KIND = "text/plain; version=0.0.4; charset=utf-8"

Samples = Iterable[tuple[Mapping[str, str], float]]


@login_not_required
def metrics(request: HttpRequest) -> HttpResponse:
    if not settings.METRICS_TOKEN:
        raise Http404("No METRICS_TOKEN is set.")
    if not _may_read(request.headers.get("Authorization", "")):
        answer = HttpResponse("Bring METRICS_TOKEN as a bearer token.\n", status=401, content_type="text/plain")
        answer.headers["WWW-Authenticate"] = 'Bearer realm="metrics"'
        return answer
    return HttpResponse(cache.get_or_set("metrics", text, KEPT_SECONDS), content_type=KIND)


def _may_read(header: str) -> bool:
    scheme, _, token = header.partition(" ")
    brought = token.strip().encode("utf-8", "replace")
    return scheme.lower() == "bearer" and hmac.compare_digest(brought, settings.METRICS_TOKEN.encode())


def text() -> str:
    found = status.summary()
    alerts = Counter(alert["code"] for alert in found["alerts"])
    return "".join(
        [
            _gauge("farshore_instances", "Instances by protection state.", _by("state", found["instances"])),
            _gauge("farshore_copies", "Copies by state.", _by("state", found["copies"])),
            _gauge(
                "farshore_furthest_behind_seconds",
                "Age of the oldest backup that should have been copied and is not.",
                [({}, found["furthest_behind_seconds"])],
            ),
            _gauge(
                "farshore_store_up",
                "1 where the store of a region answers.",
                [({"region": region}, state == Store.State.OK) for region, state in found["stores"].items()],
            ),
            _gauge("farshore_open_alerts", "Open alerts by code.", _by("code", alerts)),
            _gauge("farshore_status", "As manage.py status exits: 0, 1 or 2.", [({}, status.exit_code(found))]),
            *_webhooks(standing()),
        ]
    )


def _webhooks(found: Standing) -> Iterator[str]:
    yield _gauge(
        "farshore_webhooks",
        "Webhooks by state; given_up: disabled by Farshore itself.",
        _by("state", found.endpoints),
    )
    yield _gauge(
        "farshore_webhook_deliveries",
        "Messages that wait, and those of the last thirty days that were tried too often.",
        _by("state", found.deliveries),
    )
    yield _gauge(
        "farshore_webhook_oldest_waiting_seconds",
        "Age of the oldest message that waits, also where its receiver takes nothing.",
        [({}, found.oldest_seconds)],
    )
    yield _gauge(
        "farshore_webhook_overdue_seconds",
        "For how long a message could have been sent and was not; more than minutes: nobody sends.",
        [({}, found.overdue_seconds)],
    )


def _by(label: str, counted: Mapping[str, int]) -> Samples:
    return [({label: word}, count) for word, count in sorted(counted.items())]


def _gauge(name: str, help_text: str, samples: Samples) -> str:
    lines = [f"# HELP {name} {help_text}", f"# TYPE {name} gauge"]
    lines += [f"{name}{_labels(labels)} {float(value):.15g}" for labels, value in samples]
    return "\n".join(lines) + "\n"


def _labels(labels: Mapping[str, str]) -> str:
    inside = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items())
    return f"{{{inside}}}" if inside else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
