"""Decodes an encoder's TOML tables strictly: every error names the file and the key."""

import re
from collections.abc import Mapping
from typing import Any

from export.errors import ExportError
from export.serving import Precision
from export.spec import (
    ROLE_DIMENSIONS,
    BundledAdapters,
    EncoderSpec,
    Head,
    HubSource,
    InputType,
    License,
    Lora,
    PackageSource,
    Source,
    Words,
)

ARCHITECTURES = ("bert", "jina_embeddings_v3", "qwen2")
POOLINGS = ("mean", "last_token")
ATTENTIONS = ("bidirectional", "causal")
HEAD_KINDS = ("isometric",)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-z][a-z0-9.-]*")
_LAYER = re.compile(r"[a-z][a-z0-9_]*")
_HUB_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")

_FIELDS: Mapping[str, type] = {
    "name": str,
    "role": str,
    "architecture": str,
    "dimension": int,
    "base_dimension": int,
    "pooling": str,
    "max_tokens": int,
    "attention": str,
    "precision": str,
    "query": dict,
    "passage": dict,
    "tasks": list,
    "source": dict,
    "license": dict,
}
_OPTIONAL: Mapping[str, type] = {"append_eos": str, "lora": dict, "head": dict, "words": dict, "adapters": dict}


class SpecReader:
    """Turns the tables of one file into an `EncoderSpec`."""

    def __init__(self, file_name: str) -> None:
        self._file_name = file_name

    def spec(self, value: Any) -> EncoderSpec:
        """Decode the whole file.

        Raises:
            ExportError: A key is unknown, missing or of the wrong type, or a value is invalid.
        """
        table = self._table(value, "", _FIELDS, _OPTIONAL)
        name, role, dimension, base = table["name"], table["role"], table["dimension"], table["base_dimension"]
        self._require(bool(_NAME.fullmatch(name)), "name", name, "lower-case letters, digits, dots and hyphens")
        self._one_of("role", role, tuple(ROLE_DIMENSIONS))
        self._require(
            dimension == ROLE_DIMENSIONS[role], "dimension", dimension, f"{ROLE_DIMENSIONS[role]} for role {role}"
        )
        self._one_of("architecture", table["architecture"], ARCHITECTURES)
        self._one_of("pooling", table["pooling"], POOLINGS)
        self._one_of("attention", table["attention"], ATTENTIONS)
        self._one_of("precision", table["precision"], tuple(Precision))
        self._require(1 <= table["max_tokens"] <= 32768, "max_tokens", table["max_tokens"], "1 to 32768")
        self._require(table.get("append_eos") != "", "append_eos", "", "a token; leave it out for none")
        head = self._head(table["head"]) if "head" in table else None
        expected = "in 1 to dimension" if head else f"{dimension} where there is no head"
        self._require(0 < base <= dimension if head else base == dimension, "base_dimension", base, expected)
        lora = self._lora(table["lora"]) if "lora" in table else None
        words = self._words(table["words"]) if "words" in table else None
        has_room = head is not None and lora is not None and base < dimension
        self._require(words is None or has_room, "words", words, "absent without [lora] and a [head] up from the base")
        tasks = self._names("tasks", table["tasks"], pattern=_NAME)
        self._require(not tasks or lora is not None, "tasks", tasks, "empty where there is no [lora]")
        return EncoderSpec(
            name=name,
            role=role,
            architecture=table["architecture"],
            dimension=dimension,
            base_dimension=base,
            pooling=table["pooling"],
            max_tokens=table["max_tokens"],
            append_eos=table.get("append_eos"),
            attention=table["attention"],
            precision=Precision(table["precision"]),
            query=self._input_type("query", table["query"], tasks),
            passage=self._input_type("passage", table["passage"], tasks),
            tasks=tasks,
            lora=lora,
            head=head,
            words=words,
            adapters=self._adapters(table["adapters"]) if "adapters" in table else None,
            source=self._source(table["source"]),
            license=self._license(table["license"]),
        )

    def _error(self, message: str) -> ExportError:
        return ExportError(f"{self._file_name}: {message}")

    def _table(
        self, value: Any, where: str, fields: Mapping[str, type], optional: Mapping[str, type] | None = None
    ) -> dict[str, Any]:
        optional = optional or {}
        if not isinstance(value, dict):
            raise self._error(f"{where or 'the file'} must be a table")
        prefix = f"{where}." if where else ""
        for key, item in value.items():
            kind = fields.get(key) or optional.get(key)
            if kind is None:
                raise self._error(f"unknown key {prefix}{key}")
            # bool is an int in Python, and TOML writes a whole float as an integer.
            accepted = (int, float) if kind is float else (kind,)
            if not isinstance(item, accepted) or (isinstance(item, bool) and kind is not bool):
                raise self._error(f"{prefix}{key} must be a {kind.__name__}, not {item!r}")
        for key in fields:
            if key not in value:
                raise self._error(f"missing key {prefix}{key}")
        return value

    def _require(self, holds: bool, key: str, value: object, expected: str) -> None:
        if not holds:
            raise self._error(f"{key} must be {expected}, not {value!r}")

    def _one_of(self, key: str, value: str, known: tuple[str, ...]) -> None:
        self._require(value in known, key, value, " or ".join(known))

    def _names(self, key: str, values: list[Any], *, pattern: re.Pattern[str]) -> tuple[str, ...]:
        for value in values:
            self._require(isinstance(value, str) and bool(pattern.fullmatch(value)), key, value, "a list of names")
        self._require(len(set(values)) == len(values), key, values, "a list without repetition")
        return tuple(values)

    def _input_type(self, key: str, value: Any, tasks: tuple[str, ...]) -> InputType:
        table = self._table(value, key, {"prompt": str}, {"task": str})
        task = table.get("task")
        if tasks:
            self._require(task in tasks, f"{key}.task", task, f"one of the tasks ({', '.join(tasks)})")
        else:
            self._require(task is None, f"{key}.task", task, "absent where there are no tasks")
        return InputType(table["prompt"], task)

    def _lora(self, value: Any) -> Lora:
        table = self._table(value, "lora", {"rank": int, "alpha": float, "targets": list, "trained": bool})
        self._require(1 <= table["rank"] <= 256, "lora.rank", table["rank"], "1 to 256")
        self._require(table["alpha"] > 0, "lora.alpha", table["alpha"], "positive")
        self._require(bool(table["targets"]), "lora.targets", table["targets"], "one name or more")
        targets = self._names("lora.targets", table["targets"], pattern=_LAYER)
        return Lora(table["rank"], float(table["alpha"]), targets, table["trained"])

    def _head(self, value: Any) -> Head:
        table = self._table(value, "head", {"kind": str, "seed": int})
        self._one_of("head.kind", table["kind"], HEAD_KINDS)
        self._require(table["seed"] >= 0, "head.seed", table["seed"], "0 or more")
        return Head(table["kind"], table["seed"])

    def _words(self, value: Any) -> Words:
        table = self._table(value, "words", {"share": float, "seed": int})
        self._require(0 < table["share"] < 1, "words.share", table["share"], "above 0 and below 1")
        self._require(table["seed"] >= 0, "words.seed", table["seed"], "0 or more")
        return Words(float(table["share"]), table["seed"])

    def _adapters(self, value: Any) -> BundledAdapters:
        table = self._table(value, "adapters", {"folder": str, "sha256": str})
        self._require(bool(_NAME.fullmatch(table["folder"])), "adapters.folder", table["folder"], "a folder's name")
        digest = table["sha256"]
        self._require(bool(_SHA256.fullmatch(digest)), "adapters.sha256", digest, "a SHA-256 in lower-case hex")
        return BundledAdapters(table["folder"], digest)

    def _license(self, value: Any) -> License:
        table = self._table(value, "license", {"identifier": str, "url": str, "forbids": str})
        self._require(bool(table["identifier"]), "license.identifier", "", "an SPDX identifier")
        self._require(table["url"].startswith("https://"), "license.url", table["url"], "an https address")
        return License(table["identifier"], table["url"], table["forbids"])

    def _source(self, value: Any) -> Source:
        if isinstance(value, dict) and "repository" in value:
            table = self._table(value, "source", {"repository": str, "revision": str, "files": list})
            name = table["repository"]
            self._require(bool(_HUB_REPOSITORY.fullmatch(name)), "source.repository", name, "owner/name")
            self._require(bool(table["revision"]), "source.revision", "", "a commit, tag or branch")
            patterns = all(isinstance(one, str) and one for one in table["files"]) and bool(table["files"])
            self._require(patterns, "source.files", table["files"], "a list of file patterns")
            return HubSource(name, table["revision"], tuple(table["files"]))
        table = self._table(value, "source", {"package": str, "version": str, "folder": str, "files": dict})
        self._require(bool(table["files"]), "source.files", table["files"], "one file or more")
        for file_name, digest in table["files"].items():
            is_digest = isinstance(digest, str) and bool(_SHA256.fullmatch(digest))
            self._require(is_digest, f"source.files.{file_name}", digest, "a SHA-256 in lower-case hex")
        return PackageSource(table["package"], table["version"], table["folder"], dict(table["files"]))
