"""What the client proves the service by, and itself to the service, on `https://` endpoints."""

import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import grpc

from gateway.client.errors import ClientError

CA_FILE, CERTIFICATE, KEY = "DUOVEC_CA_FILE", "DUOVEC_CLIENT_CERTIFICATE", "DUOVEC_CLIENT_KEY"


@dataclass(frozen=True, slots=True)
class ClientTls:
    """Files in PEM; each is optional.

    Attributes:
        ca_file: The authorities that the service's certificate must come from; None for those of the system's
            gRPC, which know the public ones.
        certificate: The client's own, where the service asks for one, with those that lead to its root.
        key: The private key of `certificate`.
    """

    ca_file: Path | None = None
    certificate: Path | None = None
    key: Path | None = None

    @classmethod
    def from_environment(cls) -> Self:
        """What DUOVEC_CA_FILE, DUOVEC_CLIENT_CERTIFICATE and DUOVEC_CLIENT_KEY name."""
        ca_file, certificate, key = (
            Path(value).expanduser() if (value := os.environ.get(name)) else None
            for name in (CA_FILE, CERTIFICATE, KEY)
        )
        return cls(ca_file, certificate, key)

    def channel_credentials(self) -> grpc.ChannelCredentials:
        """What gRPC connects with.

        Raises:
            ClientError: A file cannot be read or has something else, or one of certificate and key lacks the other.
        """
        if (self.certificate is None) != (self.key is None):
            raise _refused("a client certificate and its key go together; give both, or neither")
        self._check()
        return grpc.ssl_channel_credentials(
            *(None if path is None else path.read_bytes() for path in (self.ca_file, self.key, self.certificate))
        )

    def _check(self) -> None:
        """Read the files as gRPC would, which says nothing of what is wrong with one and does not connect."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        try:
            if self.ca_file is not None:
                path = self.ca_file
                context.load_verify_locations(path)
            if self.certificate is not None and self.key is not None:
                path = self.key
                self.key.open("rb").close()  # of two files that are loaded at once, ssl names none
                path = self.certificate
                # An encrypted key would be asked for on the terminal.
                context.load_cert_chain(path, self.key, password="")
        except ssl.SSLError as exc:
            if exc.reason == "KEY_VALUES_MISMATCH":
                raise _refused(f"the key in {self.key} is not that of the certificate in {self.certificate}") from exc
            and_key = "" if path == self.ca_file else f" with the key in {self.key}"
            raise _refused(f"{path}{and_key} is not what TLS needs in PEM ({exc.reason or exc})") from exc
        except OSError as exc:
            raise _refused(f"{path} cannot be read: {exc.strerror}") from exc


def _refused(message: str) -> ClientError:
    return ClientError(message, code=grpc.StatusCode.INVALID_ARGUMENT)
