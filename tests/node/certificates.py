"""Certificates for tests, made with openssl."""

import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Holder:
    """Somebody with a certificate."""

    key: Path
    certificate: Path


def certify(folder: Path, name: str, by: Holder | None = None, host: str = "127.0.0.1") -> Holder:
    """Make a certificate with openssl, signed by an authority, or that of an authority."""
    holder = Holder(key=folder / f"{name}.key", certificate=folder / f"{name}.pem")
    command = ["openssl", "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-subj", f"/CN={name}"]
    command += ["-keyout", holder.key, "-out", holder.certificate]
    if by is not None:
        command += ["-CA", by.certificate, "-CAkey", by.key]
        command += ["-addext", "basicConstraints=critical,CA:FALSE"]
        command += ["-addext", f"subjectAltName=IP:{host}"]
    subprocess.run(command, check=True, capture_output=True)
    return holder
