"""Every answer has its headers, Django's own refusals included."""

from __future__ import annotations

import pytest
from django.test import Client


def test_an_answer_carries_the_strict_policy(client: Client) -> None:
    answer = client.get("/health")
    assert answer.status_code == 200
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert "unsafe" not in answer.headers["Content-Security-Policy"]


def test_djangos_own_refusal_of_a_strange_host_carries_it_too(client: Client) -> None:
    answer = client.get("/health", headers={"host": "evil.example"})
    assert answer.status_code == 400
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")


@pytest.mark.django_db
def test_an_unknown_visitor_is_sent_to_the_sign_in(client: Client) -> None:
    answer = client.get("/admin/")
    assert answer.status_code == 302
    assert client.get("/accounts/login/").status_code == 200
    assert client.get("/accounts/signup/").context is not None
