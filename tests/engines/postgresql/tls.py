"""A certificate for the packaged server, signed by itself, good for a name that only these tests use."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.engines.postgresql.clusters import HOST


def use_tls(cluster: Path) -> dict[str, str]:
    """Put key and certificate into a cluster's folder, owned as it is; returns the settings that use them."""
    key = ec.generate_private_key(ec.SECP256R1())
    private = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    _write(cluster, "server.key", key.private_bytes(serialization.Encoding.PEM, *private))
    _write(cluster, "server.crt", _certificate(key).public_bytes(serialization.Encoding.PEM))
    return {"ssl": "on"}


def _certificate(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, HOST)])
    today = datetime.now(UTC)
    return (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(today - timedelta(days=1))
        .not_valid_after(today + timedelta(days=30))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(HOST)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )


def _write(cluster: Path, name: str, content: bytes) -> None:
    path, owner = cluster / name, cluster.stat()
    path.write_bytes(content)
    path.chmod(0o600)
    os.chown(path, owner.st_uid, owner.st_gid)
