"""Authorities and certificates for tests, made on the spot."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True)
class Issued:
    """A certificate and its key, PEM; `chain` begins with the certificate and ends below the root."""

    chain: bytes
    key: bytes

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write `NAME.pem` and `NAME.key`, each in one step, as whoever renews a certificate should."""
        paths = folder / f"{name}.pem", folder / f"{name}.key"
        for path, data in zip(paths, (self.chain, self.key), strict=True):
            staging = path.with_name(f"{path.name}.new")
            staging.write_bytes(data)
            staging.replace(path)
        return paths


@dataclass(frozen=True)
class Authority:
    """Signs certificates."""

    name: str
    certificate: x509.Certificate
    private_key: ec.EllipticCurvePrivateKey
    above: bytes = b""

    @classmethod
    def make(cls, name: str = "test root") -> Self:
        """A root."""
        key = ec.generate_private_key(ec.SECP256R1())
        return cls(name, _sign(name, key, name, key, ca=True), key)

    def intermediate(self, name: str) -> "Authority":
        """An authority below this one."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = _sign(name, key, self.name, self.private_key, ca=True)
        return Authority(name, certificate, key, above=_pem(certificate) + self.above)

    @property
    def pem(self) -> bytes:
        """What trusts it."""
        return _pem(self.certificate)

    def issue(
        self,
        name: str = "duovec.test",
        *,
        begin: timedelta = timedelta(days=-2),
        end: timedelta = timedelta(days=30),
        key: PrivateKey | None = None,
    ) -> Issued:
        """A certificate for servers and clients, for 127.0.0.1, localhost and its own name."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        certificate = _sign(name, key, self.name, self.private_key, begin=begin, end=end)
        return Issued(_pem(certificate) + self.above, key_pem(key))


def key_pem(key: PrivateKey, *, password: bytes | None = None) -> bytes:
    """A private key in PEM."""
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _sign(
    name: str,
    key: PrivateKey,
    issuer: str,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    begin: timedelta = timedelta(days=-2),
    end: timedelta = timedelta(days=30),
    ca: bool = False,
) -> x509.Certificate:
    now = datetime.now(UTC)
    names = [x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("localhost"), x509.DNSName(name.replace(" ", "-"))]
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(_name(issuer))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + begin)
        .not_valid_after(now + end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if not ca:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
