"""Webhooks: a person's own, what each hears of, and the log of what it was told; the secret is shown once."""

from __future__ import annotations

import json
from datetime import timedelta
from functools import cached_property
from typing import Any

from django import forms
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.urls import reverse, reverse_lazy
from django.utils.translation import gettext

from console.webhooks import endpoints, posting
from console.webhooks.endpoints import NewSecret
from console.webhooks.forms import KINDS, DeliveryFilter, EndpointForm, said_by
from console.webhooks.models import Delivery, Endpoint
from console.webhooks.tables import DELIVERIES, DeliveryTable, EndpointTable, groups_of, look_of, said_of
from console.widgets.acting import acting
from console.widgets.asking import Dialog
from console.widgets.badges import badge
from console.widgets.dialogs import leave
from console.widgets.listing import ListView
from regions import clock

SOON = timedelta(seconds=40)  # what waits no longer than this is looked at again by the page


class EndpointList(ListView):
    page_template = "webhooks/list.html"
    table_class = EndpointTable
    orders = {"created": ("pk",)}
    usual_sort = "-created"

    def rows(self) -> QuerySet[Endpoint]:
        return endpoints.endpoints_for(self.request.user)

    def context(self) -> dict[str, Any]:
        return {"may_make": endpoints.may_make(self.request.user)}


class Page(ListView):
    """One endpoint, and the log of what it was told."""

    page_template = "webhooks/page.html"
    fragments = {"rows": "webhooks/_rows.html"}
    table_class = DeliveryTable
    filter_class = DeliveryFilter
    orders = {"written": ("pk",)}
    usual_sort = "-written"

    @cached_property
    def endpoint(self) -> Endpoint:
        return endpoints.endpoint_for(self.request.user, self.kwargs["code"])

    def rows(self) -> QuerySet[Delivery]:
        return endpoints.deliveries_for(self.request.user, self.endpoint).defer("body")

    def context(self) -> dict[str, Any]:
        soon = clock.now() + SOON
        return {
            "endpoint": self.endpoint,
            "is_mine": self.endpoint.user == self.request.user,
            "host": posting.host_of(self.endpoint.url),
            "look": look_of(self.endpoint),
            "groups": groups_of(self.endpoint),
            "kinds": [KINDS[kind] for kind in self.endpoint.kinds],
            "is_moving": any(row.state == Delivery.State.WAITING and row.due_at < soon for row in self.page.rows),
        }


class WebhookDialog(Dialog):
    back = reverse_lazy("webhooks:list")

    def told(self, made: NewSecret) -> HttpResponse:
        return self.told_once("webhooks/_secret_dialog.html", made)


class Create(WebhookDialog):
    template = "webhooks/_dialog.html"

    def form(self, *said: Any) -> EndpointForm:
        return EndpointForm(self.request.user, *said)

    def do(self, form: EndpointForm) -> HttpResponse:
        by = acting(self.request)
        return self.told(endpoints.create(by.user, form.wish, by))


class OfEndpoint(WebhookDialog):
    """About one endpoint; its owner's business, unless the dialog says otherwise."""

    is_owners = False

    @cached_property
    def endpoint(self) -> Endpoint:
        found = endpoints.endpoint_for(self.request.user, self.kwargs["code"])
        if self.is_owners and found.user != self.request.user:
            raise Http404("No such webhook.")
        return found

    @property
    def back(self) -> str:
        return reverse("webhooks:page", args=[self.endpoint.code])

    def get(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        _ = self.endpoint
        return super().get(request, **kwargs)

    def post(self, request: HttpRequest, **kwargs: Any) -> HttpResponse:
        _ = self.endpoint
        return super().post(request, **kwargs)

    def context(self) -> dict[str, Any]:
        return {"endpoint": self.endpoint}

    def named(self, sentence: str) -> HttpResponse:
        return self.done(sentence % {"name": self.endpoint.name})


class Change(OfEndpoint):
    template, is_owners = "webhooks/_dialog.html", True

    def form(self, *said: Any) -> EndpointForm:
        return EndpointForm(self.endpoint.user, *said, initial=said_by(self.endpoint))

    def do(self, form: EndpointForm) -> HttpResponse:
        endpoints.change(self.endpoint, form.wish, acting(self.request))
        return self.named(gettext("Saved: the webhook %(name)s."))


class Rotate(OfEndpoint):
    template, is_owners = "webhooks/_rotate_dialog.html", True

    def do(self, form: forms.Form) -> HttpResponse:
        return self.told(endpoints.rotate(self.endpoint, acting(self.request)))


class Disable(OfEndpoint):
    template = "webhooks/_disable_dialog.html"

    def do(self, form: forms.Form) -> HttpResponse:
        endpoints.disable(self.endpoint, acting(self.request))
        return self.named(gettext("Disabled: the webhook %(name)s."))


class Enable(OfEndpoint):
    template = "webhooks/_enable_dialog.html"

    def do(self, form: forms.Form) -> HttpResponse:
        endpoints.enable(self.endpoint, acting(self.request))
        return self.named(gettext("Enabled: the webhook %(name)s."))


class Remove(OfEndpoint):
    template = "webhooks/_remove_dialog.html"

    def do(self, form: forms.Form) -> HttpResponse:
        endpoints.remove(self.endpoint, acting(self.request))
        sentence = gettext("Removed: the webhook %(name)s.") % {"name": self.endpoint.name}
        return leave(self.request, sentence, to=reverse("webhooks:list"))


class Test(OfEndpoint):
    template = "webhooks/_test_dialog.html"

    def do(self, form: forms.Form) -> HttpResponse:
        endpoints.send_test(self.endpoint, acting(self.request))
        return self.named(gettext("A test for %(name)s goes out within seconds."))


class OfDelivery(OfEndpoint):
    """What was sent, and every attempt; it can be sent again."""

    template = "webhooks/_delivery_dialog.html"

    @cached_property
    def delivery(self) -> Delivery:
        rows = endpoints.deliveries_for(self.request.user, self.endpoint)
        found = rows.filter(message_id=self.kwargs["message_id"]).select_related("endpoint").first()
        if found is None:
            raise Http404("No such delivery.")
        return found

    def context(self) -> dict[str, Any]:
        delivery = self.delivery
        return super().context() | {
            "delivery": delivery,
            "what": KINDS[delivery.kind],
            "badge": badge(DELIVERIES[delivery.state], said_of(delivery)),
            "tries": delivery.tries.all()[:30],
            "body": json.dumps(json.loads(delivery.body), indent=2, ensure_ascii=False),
        }

    def do(self, form: forms.Form) -> HttpResponse:
        endpoints.send_again(self.delivery, acting(self.request))
        return self.done(gettext("It is sent again within seconds, under the same message ID."))
