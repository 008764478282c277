"""How the states of the journey look: the words of the screen for protection and for copies."""

from __future__ import annotations

from django.utils.translation import gettext_lazy as _

from console.widgets.badges import BAD, INFO, OFF, OK, WARN, Look

PROTECTION = {
    "in_step": Look(OK, "check", _("In step")),
    "copying": Look(INFO, "loader", _("Copying")),
    "behind": Look(WARN, "clock", _("Behind")),
    "partial": Look(WARN, "shield-alert", _("Partial")),
    "log_gap": Look(BAD, "triangle-alert", _("Log gap")),
    "failed": Look(BAD, "circle-x", _("Failed")),
    "waiting_for_full": Look(WARN, "hourglass", _("Waiting for a full backup")),
    "suspended": Look(WARN, "circle-pause", _("Suspended")),
    "not_set_up": Look(OFF, "circle-dashed", _("Not set up")),
    "disabled": Look(OFF, "circle-off", _("Disabled")),
    "released": Look(OFF, "archive", _("Released")),
}

COPY = {
    "planned": Look(INFO, "clock", _("Waiting")),
    "copying": Look(INFO, "loader", _("Copying")),
    "verifying": Look(INFO, "loader", _("Verifying")),
    "completed": Look(OK, "check", _("Completed")),
    "expired": Look(OFF, "archive", _("Expired")),
    "deleted": Look(OFF, "trash-2", _("Deleted")),
    "failed": Look(BAD, "circle-x", _("Failed")),
    "cancelled": Look(OFF, "ban", _("Cancelled")),
    "damaged": Look(BAD, "triangle-alert", _("Damaged")),
    "hidden": Look(OFF, "eye-off", _("Hidden")),
}

RESTORE = {
    "waiting": Look(WARN, "hourglass", _("Waiting for a second person")),
    "queued": Look(INFO, "clock", _("Waiting")),
    "running": Look(INFO, "loader", _("Restoring")),
    "ready": Look(OK, "check", _("Ready")),
    "aside": Look(OFF, "archive", _("Set aside")),
    "failed": Look(BAD, "circle-x", _("Failed")),
    "cancelled": Look(OFF, "ban", _("Cancelled")),
    "removed": Look(OFF, "trash-2", _("Removed")),
}

DRILL = {
    "queued": Look(INFO, "clock", _("Queued")),
    "running": Look(INFO, "loader", _("Running")),
    "passed": Look(OK, "check", _("Passed")),
    "failed": Look(BAD, "circle-x", _("Failed")),
    "skipped": Look(OFF, "ban", _("Skipped")),
}

STORE = {
    "ok": Look(OK, "check", _("Reachable")),
    "unreachable": Look(BAD, "unplug", _("Unreachable")),
    "refused": Look(BAD, "ban", _("Refused")),
}

UNKNOWN = Look(OFF, "info", _("Unknown"))
