"""How a database server is reached: its address pinned by the network door, its password opened for the one call."""

from __future__ import annotations

from django.conf import settings

from backups.engines import engine_of
from backups.engines.facts import Connection
from backups.models import BackupJob, Instance
from regions import network, secrets
from regions.refusals import Refusal


def connection_of(instance: Instance, on: str = BackupJob.On.PRIMARY) -> Connection:
    """Return how to reach the server or its secondary, the address pinned by the network door, the password opened."""
    sealed = bytes(instance.sealed_password or b"")
    password = secrets.open_sealed(sealed, identity_of(instance)).decode() if sealed else ""
    host, port = instance.host, instance.port
    if on == BackupJob.On.SECONDARY:
        host, port = instance.secondary_host, instance.secondary_port or port
    port = port or engine_of(instance.engine).capabilities.default_port
    return Connection(
        host=host,
        port=port,
        username=instance.username,
        password=password,
        dbname=instance.dbname,
        tls=instance.tls,
        hostaddr=pinned(host, port),
    )


def pinned(host: str, port: int) -> str:
    """Return the address to connect to, "" for a folder of sockets; those are this machine's, as loopback is, and the
    catalogue's own server listens on one."""
    if host.startswith("/"):
        if not settings.FARSHORE_ALLOW_LOOPBACK:
            raise Refusal("AddressRefused", f"{host} is a socket of this machine.", "Enter a host name.", "host")
        return ""
    try:
        return network.address_of(host, port)
    except (OSError, UnicodeError) as error:
        raise Refusal("HostUnknown", f"There is no host named {host}.", "Check the name.", "host") from error


def identity_of(instance: Instance) -> str:
    """Return what the sealed password is bound to: moving it to another row makes it unreadable."""
    return f"instance:{instance.code}"


def keep_password(instance: Instance, password: str) -> None:
    instance.sealed_password = secrets.seal(password.encode(), identity_of(instance)) if password else None
