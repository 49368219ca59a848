"""Finds the published encoders that make a space."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from gateway.embedding.embedder import Embedder
from gateway.embedding.space import CODE_DIM, TEXT_DIM, Encoder, Space
from gateway.errors import SpaceNotReady, StartupError
from gateway.repository import read_served_versions


class SpaceCatalog:
    """The spaces that the model repository can make, by what is loaded in Triton."""

    def __init__(
        self, repository: Path, *, code_encoder: str, text_encoder: str, make_embedder: Callable[[Space], Embedder]
    ) -> None:
        """Read nothing yet.

        Args:
            repository: The repository that Triton serves.
            code_encoder: Folder of the code encoder that new spaces are built with.
            text_encoder: Folder of the text encoder that new spaces are built with.
            make_embedder: Makes what embeds in a space.
        """
        self._repository = repository
        self._code_encoder = code_encoder
        self._text_encoder = text_encoder
        self._make_embedder = make_embedder
        self._embedders: dict[str, Embedder] = {}

    def served(self) -> Space:
        """The space that the served versions make.

        Raises:
            StartupError: An encoder is not published, or cannot be read.
        """
        return Space.load(self._repository, code_encoder=self._code_encoder, text_encoder=self._text_encoder)

    def of_versions(self, code_version: int, text_version: int) -> Space:
        """The space that two versions make; 0 stands for the served one.

        Raises:
            StartupError: A version is not there.
        """
        served = self.served()
        code, text = served.code, served.text
        if code_version:
            code = Encoder.load(self._repository, code.name, code_version, role="code", dimension=CODE_DIM)
        if text_version:
            text = Encoder.load(self._repository, text.name, text_version, role="text", dimension=TEXT_DIM)
        return Space.of(code, text)

    async def find(self, fingerprint: str, manifest: Mapping[str, Any]) -> Space | None:
        """Look for the loaded versions that make a space; its own manifest names the encoders.

        Raises:
            StartupError: The configuration of an encoder cannot be read.
        """
        known = self._embedders.get(fingerprint)
        if known is not None and await asyncio.to_thread(self._is_loaded, known.space):
            return known.space
        code, text = manifest["code"]["encoder"], manifest["text"]["encoder"]
        return await asyncio.to_thread(Space.find, self._repository, fingerprint, code_encoder=code, text_encoder=text)

    async def embedder(self, fingerprint: str, manifest: Mapping[str, Any]) -> Embedder:
        """Get what embeds in a space; it is made once for as long as its versions are kept loaded.

        Raises:
            SpaceNotReady: No versions that make it are kept loaded.
        """
        try:
            space = await self.find(fingerprint, manifest)
            if space is None:
                raise SpaceNotReady(
                    f"no loaded versions of {manifest['code']['encoder']} and {manifest['text']['encoder']} in "
                    f"{self._repository} make space {fingerprint}; publish or roll back to them with duovec-export"
                )
            known = self._embedders.get(fingerprint)
            if known is not None and known.space is space:
                return known
            embedder = await asyncio.to_thread(self._make_embedder, space)
        except (StartupError, KeyError) as exc:
            raise SpaceNotReady(f"the encoders of space {fingerprint} cannot be read: {exc}") from exc
        self._embedders[fingerprint] = embedder
        return embedder

    def _is_loaded(self, space: Space) -> bool:
        """Whether the versions are still those that Triton keeps; the same models may have got other numbers since."""
        return all(
            encoder.version in read_served_versions(self._repository, encoder.name).loaded
            for encoder in (space.code, space.text)
        )

    async def forget_all_but(self, fingerprints: Collection[str]) -> None:
        """Let go of the embedders, tokenizers and all, of spaces that are there no more."""
        for fingerprint in set(self._embedders) - set(fingerprints):
            await self._embedders.pop(fingerprint).close()

    async def close(self) -> None:
        """Let the embedders end what they write."""
        for embedder in self._embedders.values():
            await embedder.close()
