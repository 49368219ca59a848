"""Which space is served at this moment; requests ask for it once each."""

from dataclasses import dataclass

from gateway.embedding.embedder import Embedder


@dataclass(frozen=True, slots=True)
class ServedSpace:
    """A space that this gateway can embed in, with the store's key of it."""

    space_key: int
    embedder: Embedder

    @property
    def fingerprint(self) -> str:
        """64 hex digits."""
        return self.embedder.space.fingerprint


class Serving:
    """Holds the active space. Whoever answers a request takes it once, and stays with it to the end."""

    def __init__(self, active: ServedSpace) -> None:
        """Begin with a space."""
        self._active = active

    @property
    def active(self) -> ServedSpace:
        """The space that is searched and written to."""
        return self._active
