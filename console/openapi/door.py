"""The first middleware: what is a signed call is answered here and goes no further; everything else passes untouched.

It stands behind the headers and before all of Django's, so that no CSRF check, redirect or host check meets a call, and
whatever happens inside, the answer is the vendor's envelope (openapi/README.md, "Reaching us").
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import InterfaceError, OperationalError
from django.http import Http404, HttpRequest, HttpResponse

from backups import events
from backups.terms.policy_settings import Refusals
from console.openapi import answers, callers, contract, faults, operations
from console.openapi.asking import Asked
from console.openapi.callers import Caller, Claim
from console.openapi.calls import (
    ACS3,
    FORM,
    MOST_BYTES,
    MOST_PARAMETERS,
    PATHS,
    Call,
    Pairs,
    headers_of,
    pairs_of,
    raw_query,
)
from console.openapi.faults import Fault
from console.openapi.models import AccessKey
from console.openapi.operations import Operation
from regions.refusals import Refusal

log = logging.getLogger(__name__)

VERSION = "2014-08-15"
UNKNOWN = "unknown"  # what a call to an operation nobody knows is counted as


class Door:
    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path_info not in PATHS:
            return self.get_response(request)
        request_id, call = answers.new_request_id(), None
        try:
            call = claimed(request)
        except Exception as error:  # it bears the mark and cannot even be read
            return answers.failure(fault_of(error, request_id), request_id, None)
        return self.get_response(request) if call is None else answer(call, request_id, _scheme(request))


def _scheme(request: HttpRequest) -> str:
    return "https" if request.META.get("wsgi.url_scheme") == "https" else "http"


# ---- is it ours?


def claimed(request: HttpRequest) -> Call | None:
    """Return the call, None for what bears no mark of one: such a request is left as it came."""
    meta = request.META
    query = pairs_of(raw_query(meta))
    is_marked = str(meta.get("HTTP_AUTHORIZATION", "")).startswith(ACS3) or _has_signature(query)
    is_form = str(meta.get("CONTENT_TYPE", "")).partition(";")[0].strip().lower() == FORM
    if not is_marked and not (is_form and request.method == "POST"):
        return None
    body = _body_of(request)
    form = pairs_of(body) if is_form else []
    if not is_marked and not _has_signature(form):
        return None
    return Call(
        method=request.method or "",
        path=request.path_info,
        query=query,
        form=form,
        body=body,
        headers=headers_of(meta),
        address=str(meta.get("REMOTE_ADDR", "")),
        is_too_large=len(body) > MOST_BYTES,
        is_too_long=len(query) > MOST_PARAMETERS or len(form) > MOST_PARAMETERS,
    )


def _has_signature(pairs: Pairs) -> bool:
    return any(name == "Signature" for name, _ in pairs)


def _body_of(request: HttpRequest) -> bytes:
    """Read at most 1 MiB and one byte; what was read whole can still be read by whoever comes after us."""
    chunked = "chunked" in str(request.META.get("HTTP_TRANSFER_ENCODING", "")).lower()
    source: Any = request.META.get("wsgi.input") if chunked and request.META.get("wsgi.input_terminated") else request
    pieces, left = [], MOST_BYTES + 1
    try:
        while left and (piece := source.read(left)):
            pieces.append(piece)
            left -= len(piece)
    except Exception as error:  # the client left, or its chunks are none: each server raises its own
        raise faults.unreadable("The body could not be read to its end.") from error
    body = b"".join(pieces)
    if left:
        request._body = body
    return body


# ---- answering


def answer(call: Call, request_id: str, scheme: str = "http") -> HttpResponse:
    """Answer a call. Nothing raised in here leaves it."""
    try:
        caller, operation = _let_in(call, request_id, scheme)
        said = _perform(operation, caller, call)
        return answers.success(operation.name, said, request_id, call)
    except Exception as error:
        return answers.failure(fault_of(error, request_id), request_id, call)


def _let_in(call: Call, request_id: str, scheme: str) -> tuple[Caller, Operation]:
    """Prove the caller and find what they want; raises Fault."""
    if call.method not in ("GET", "POST"):
        raise faults.wrong_method()
    if call.is_too_large:
        raise faults.too_large(MOST_BYTES)
    if call.is_too_long:
        raise faults.unreadable(f"A call has at most {MOST_PARAMETERS} parameters.")
    claim = callers.claim_of(call)
    known = callers.known(claim)
    key, at = known.key, known.at
    operation = operations.OPERATIONS.get(claim.action)
    what = operation.name if operation else UNKNOWN
    try:
        callers.prove(claim, key, at, call.address)
        number = callers.admit(claim, key, at, what)
    except Fault as fault:
        _tell_refused(fault, key, at, call.address)
        raise
    callers.keep_used(key, at, call.address)
    caller = callers.caller_of(
        known, address=call.address, host=answers.host_of(call), scheme=scheme, request_id=request_id
    )
    if number == 1 and not (operation and operation.changes):
        _tell_first(caller, what)
    return caller, _wanted(claim, operation)


def _wanted(claim: Claim, operation: Operation | None) -> Operation:
    if not claim.version:
        raise faults.missing("Version")
    if claim.version != VERSION:
        raise Fault("InvalidVersion", 400, "Specified parameter Version is not valid.")
    if not claim.action:
        raise faults.missing("Action")
    if operation is None:
        raise faults.no_such_action()
    return operation


def _perform(operation: Operation, caller: Caller, call: Call) -> dict[str, Any]:
    """Do what was asked for; a call that changes something is an event, whatever came of it."""
    code = ""
    try:
        asked = Asked.of(operation.name, call.parameters)
        said = operation.perform(caller, asked)
        return contract.fit(operation.name, {**said, "RequestId": caller.request_id})
    except Exception as error:
        code = fault_of(error, caller.request_id, is_logged=False).code
        raise
    finally:
        if operation.changes:
            _tell_called(operation, caller, code)


# ---- what is told (docs/decisions/0078)


def _tell_called(operation: Operation, caller: Caller, code: str) -> None:
    outcome = f"was refused ({code})" if code else "was done"
    events.record(
        "api.called",
        f"{operation.name}, called by the access key {caller.key}, {outcome}.",
        by=caller.by,
        instance=caller.about,
        access_key=caller.key.key_id,
        request=caller.request_id,
        code=code,
    )


def _tell_first(caller: Caller, what: str) -> None:
    """The first call of an hour is told; those after it are counted."""
    name = what if what != UNKNOWN else "An operation that is not known"
    events.record(
        "api.read",
        f"{name} was called by the access key {caller.key}; further calls of it in this hour are counted.",
        by=caller.by,
        access_key=caller.key.key_id,
        request=caller.request_id,
    )


def _tell_refused(fault: Fault, key: AccessKey, at: Any, address: str) -> None:
    """The first refusal of a kind in an hour is told: nobody fills the record who does not know the secret."""
    if callers.count(key, f"refused {fault.code}"[:60], at) == 1:
        events.record(
            "api.refused",
            f"A call that named the access key {key} was refused ({fault.code}); more of it in this hour is counted.",
            by=events.By(None, address),
            access_key=key.key_id,
            code=fault.code,
        )


# ---- what went wrong, in the vendor's words


def fault_of(error: Exception, request_id: str, *, is_logged: bool = True) -> Fault:
    """Return the fault that an exception is answered with; a surprise keeps its traceback, in the log."""
    match error:
        case Fault():
            return error
        case Refusals():
            return faults.of_refusals(error.items)
        case Refusal():
            return faults.of_refusal(error)
        case PermissionDenied():
            return faults.forbidden()
        case Http404():
            return faults.no_such_instance()
        case UnicodeError():
            return faults.unreadable("The call is not written in UTF-8.")
    if is_logged:
        log.error("call failed", extra={"request": request_id}, exc_info=error)
    if isinstance(error, OperationalError | InterfaceError):
        return Fault("ServiceUnavailable", 503, "The request has failed due to a temporary failure of the server.")
    return Fault("InternalError", 500, "The request processing has failed due to some unknown error.")
