"""What stood beside the databases of a server, as a script that makes it again elsewhere."""

from __future__ import annotations

from django.db import models


class ServerScript(models.Model):
    """One state of an instance's logins, jobs and linked servers (`engines.facts.Surroundings`), from `first_seen_at`
    until `seen_at`. The script may hold hashes of passwords: it is sealed, bound to its instance and its own hash.
    """

    instance = models.ForeignKey("backups.Instance", models.PROTECT, related_name="scripts")
    sha256 = models.CharField(max_length=64)
    sealed = models.BinaryField(editable=False)
    names = models.JSONField(default=dict)
    notes = models.JSONField(default=list)
    first_seen_at = models.DateTimeField()
    seen_at = models.DateTimeField()

    class Meta:
        indexes = [models.Index(fields=["instance", "-first_seen_at", "-id"], name="script_newest")]

    def __str__(self) -> str:
        return f"what stood beside the databases of {self.instance.name} at {self.first_seen_at:%Y-%m-%d %H:%M:%S}"
