"""A certificate that databases are restored with, known to be there in a region."""

from __future__ import annotations

from django.conf import settings
from django.core.validators import RegexValidator
from django.db import models
from django.db.models import Q


class RegisteredCertificate(models.Model):
    """A person says that a certificate, with its private key, is at hand in a region (R-3.5).

    registered ──withdraw──> withdrawn (`withdrawn_at`); registered anew it is another row
    """

    region = models.ForeignKey("regions.Region", models.PROTECT, related_name="certificates")
    thumbprint = models.CharField(max_length=64, validators=[RegexValidator(r"^[0-9a-f]{8,64}$")])
    note = models.CharField(max_length=200, blank=True)
    registered_by = models.ForeignKey(settings.AUTH_USER_MODEL, models.PROTECT, null=True, related_name="+")
    registered_at = models.DateTimeField()
    withdrawn_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["region", "thumbprint"], condition=Q(withdrawn_at=None), name="certificate_once"
            ),
        ]

    def __str__(self) -> str:
        return self.thumbprint
