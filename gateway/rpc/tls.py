"""TLS on the gateway's ports: their certificate, its key, and whose clients it trusts, as they stand in files.

They are asked for before every handshake, so that replaced files hold from the next connection on, without a restart.
"""

import logging
import os
import ssl
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import grpc
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from gateway.errors import StartupError

logger = logging.getLogger(__name__)

_RETRY_S = 1.0
"""After which refused files are looked at again: a certificate may hold by then, a key or its folder be readable."""

CERTIFICATE, KEY, CLIENT_CA = "DUOVEC_TLS_CERTIFICATE", "DUOVEC_TLS_KEY", "DUOVEC_TLS_CLIENT_CA"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the files held at a time, checked."""

    chain_pem: bytes
    key_pem: bytes
    ca_pem: bytes | None
    subject: str
    end_time: datetime

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """What gRPC takes."""
        return grpc.ssl_server_certificate_configuration([(self.key_pem, self.chain_pem)], self.ca_pem)

    def context(self) -> ssl.SSLContext:
        """What everything else takes."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["http/1.1"])
        # A session that goes on by a ticket would be asked for no certificate, whatever became of its authority.
        context.options |= ssl.OP_NO_TICKET
        context.num_tickets = 0
        # OpenSSL's interface to Python reads files alone; this one is in memory.
        descriptor = os.memfd_create("duovec-tls")
        try:
            os.write(descriptor, self.key_pem + b"\n" + self.chain_pem)
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        finally:
            os.close(descriptor)
        if self.ca_pem is not None:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(cadata=self.ca_pem.decode())
        return context


class TlsFiles:
    """The files of one gateway; what they hold is checked each time that they changed."""

    def __init__(self, certificate: Path, key: Path, client_ca: Path | None = None) -> None:
        """Read the files.

        Args:
            certificate: PEM, the gateway's certificate first, then those that lead to its root.
            key: PEM, the private key of the first, RSA or EC, not encrypted.
            client_ca: PEM, the authorities of which every client must show a certificate; None asks for none.

        Raises:
            StartupError: A file cannot be read or has something else, the key is another certificate's, or a
                certificate has expired or does not hold yet.
        """
        self._certificate, self._key, self._client_ca = certificate, key, client_ca
        self._lock = threading.Lock()
        self._seen = self._signature()
        self._loaded = self._load()
        self._refusal: str | None = None
        self._retry_at = 0.0
        self._expiry_was_told = False
        self._context: tuple[Loaded, ssl.SSLContext] | None = None

    def __repr__(self) -> str:
        return f"TlsFiles({self._certificate}, client_ca={self._client_ca}, until={self._loaded.end_time:%Y-%m-%d})"

    @property
    def end_time(self) -> datetime:
        """When the certificates in use expire, the first of them."""
        return self._loaded.end_time

    @property
    def asks_for_client_certificates(self) -> bool:
        """Whether a client must show a certificate."""
        return self._client_ca is not None

    def server_credentials(self) -> grpc.ServerCredentials:
        """What a gRPC server listens with; follows the files from then on."""
        given = self._loaded

        def changed() -> grpc.ServerCertificateConfiguration | None:
            """What is to be used from this handshake on; None for what was. Runs in a thread of gRPC's."""
            nonlocal given
            if (loaded := self.current()) is given:
                return None
            given = loaded
            return loaded.configuration()

        return grpc.dynamic_ssl_server_credentials(
            given.configuration(),
            changed,  # type: ignore[arg-type]  # None means no change, which the stub does not know
            require_client_authentication=self.asks_for_client_certificates,
        )

    def ssl_context(self) -> ssl.SSLContext:
        """What another server listens with; follows the files from then on."""
        base = self._loaded.context()

        def follow(connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
            # Called in every handshake, with the name that the client asks for or None.
            connection.context = self._current_context()

        base.sni_callback = follow
        return base

    def _current_context(self) -> ssl.SSLContext:
        loaded = self.current()
        if self._context is None or self._context[0] is not loaded:
            self._context = loaded, loaded.context()
        return self._context[1]

    def current(self) -> "Loaded":
        """What is to be used from this handshake on, from any thread; the same object until the files change."""
        with self._lock:
            signature, now = self._signature(), time.monotonic()
            if signature != self._seen:
                self._seen, self._refusal = signature, None
            elif self._refusal is None or now < self._retry_at:
                self._tell_expiry()
                return self._loaded
            try:
                self._loaded = self._load()
            except StartupError as exc:
                self._retry_at = now + _RETRY_S
                if self._refusal != str(exc):
                    self._refusal = str(exc)
                    logger.error("the new TLS files are not used, the old ones go on: %s", exc)
            else:
                self._refusal = None
                self._expiry_was_told = False
                logger.info("new TLS certificate of %s, until %s", self._loaded.subject, _shown(self._loaded.end_time))
            return self._loaded

    def _tell_expiry(self) -> None:
        if self._loaded.end_time <= datetime.now(UTC) and not self._expiry_was_told:
            self._expiry_was_told = True
            logger.error("the TLS certificate expired at %s; replace %s", _shown(self._loaded.end_time), CERTIFICATE)

    def _signature(self) -> tuple[tuple[int, ...] | None, ...]:
        return tuple(_signature(path) for path in (self._certificate, self._key, self._client_ca))

    def _load(self) -> Loaded:
        chain_pem, key_pem = _read(CERTIFICATE, self._certificate), _read(KEY, self._key)
        chain = _certificates(CERTIFICATE, self._certificate, chain_pem)
        for certificate in chain:
            _check_times(CERTIFICATE, self._certificate, certificate)
        _check_key(self._key, key_pem, chain[0])
        ca_pem = None
        if self._client_ca is not None:
            ca_pem = _read(CLIENT_CA, self._client_ca)
            for authority in _certificates(CLIENT_CA, self._client_ca, ca_pem):
                _check_times(CLIENT_CA, self._client_ca, authority)
        return Loaded(
            chain_pem,
            key_pem,
            ca_pem,
            chain[0].subject.rfc4514_string(),
            min(certificate.not_valid_after_utc for certificate in chain),
        )


def tls_files(certificate: Path | None, key: Path | None, client_ca: Path | None) -> TlsFiles | None:
    """The files that the settings name; None where they name none.

    Raises:
        StartupError: As `TlsFiles`, or they name some of them only.
    """
    if certificate is None and key is None and client_ca is None:
        return None
    if certificate is None or key is None:
        missing = " and ".join(name for name, path in ((CERTIFICATE, certificate), (KEY, key)) if path is None)
        raise StartupError(f"TLS is half configured: set {missing}, too, or none of {CERTIFICATE}, {KEY}, {CLIENT_CA}")
    return TlsFiles(certificate, key, client_ca)


def _signature(path: Path | None) -> tuple[int, ...] | None:
    """Tells a file from the one that replaces it, through links, too; None for one that is not there."""
    try:
        found = path.stat() if path is not None else None
    except OSError:
        return None
    return None if found is None else (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _read(setting: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as exc:
        raise StartupError(f"{setting}: {path} cannot be read: {exc.strerror}") from exc


def _certificates(setting: str, path: Path, pem: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as exc:
        raise StartupError(f"{setting}: {path} has no certificate in PEM") from exc


def _check_times(setting: str, path: Path, certificate: x509.Certificate) -> None:
    begin, end = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    subject = certificate.subject.rfc4514_string()
    if end <= datetime.now(UTC):
        raise StartupError(f"{setting}: the certificate of {subject} in {path} expired at {_shown(end)}; renew it")
    if begin > datetime.now(UTC):
        raise StartupError(f"{setting}: the certificate of {subject} in {path} holds from {_shown(begin)} on only")


def _check_key(path: Path, pem: bytes, certificate: x509.Certificate) -> None:
    try:
        key = load_pem_private_key(pem, password=None)
    except TypeError as exc:
        raise StartupError(f"{KEY}: the key in {path} is encrypted, and nobody is there to ask; decrypt it") from exc
    except (ValueError, UnsupportedAlgorithm) as exc:
        raise StartupError(f"{KEY}: {path} has no private key in PEM") from exc
    if not isinstance(key, rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey):
        raise StartupError(f"{KEY}: the key in {path} is neither RSA nor EC, which gRPC takes")
    if key.public_key() != certificate.public_key():
        raise StartupError(f"{KEY}: the key in {path} is not that of the first certificate in {CERTIFICATE}")


def _shown(time: datetime) -> str:
    return f"{time:%Y-%m-%d %H:%M} UTC"
