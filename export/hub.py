"""Weights from the Hugging Face hub: one commit, every file checked by the digest that the hub states.

The hub's address, token and cache folder come from the environment that huggingface_hub reads (HF_ENDPOINT, HF_TOKEN,
HF_HOME), as every tool of that world does.
"""

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NoReturn

import httpx2
from huggingface_hub import HfApi, constants, hf_hub_url
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from export.disk import writing
from export.errors import ExportError
from export.hub_cache import COMMIT, HubCache, HubFile, digests_of, select, unmatched
from export.hub_transfer import DEFAULT_PATIENCE, Patience, fetch, patiently
from export.locks import locked
from export.spec import HubSource

OnProgress = Callable[[int, int], None]


def download(
    source: HubSource,
    *,
    cache_dir: Path | None = None,
    offline: bool = False,
    on_download: Callable[[int], None] = lambda size_bytes: None,
    on_progress: OnProgress = lambda done, total: None,
    patience: Patience = DEFAULT_PATIENCE,
) -> tuple[Path, str, dict[str, str]]:
    """Bring a commit's files into the cache; what is there already is checked and not fetched again.

    Args:
        source: Repository, revision, and patterns of the files.
        cache_dir: Root of the cache; huggingface_hub's own when None.
        offline: Whether to use the cache alone.
        on_download: Told how many bytes are to be fetched, before the first of them; raises to fetch none.
        on_progress: Told the bytes that are there and the bytes in all.
        patience: How often and how long to try.

    Returns:
        The folder with the files, the commit that the revision stood for, and the SHA-256 of every file by its path.

    Raises:
        ExportError: The hub refuses or cannot be reached, a file is not what the hub states, something is missing
            offline, or the disk is full; one line with the next step.
    """
    cache = HubCache(cache_dir or Path(constants.HF_HUB_CACHE), source.repository)
    if offline or constants.is_offline_mode():
        return _from_cache(source, cache)
    # The hub's errors are OSErrors too: they are told apart from the disk's before those are.
    with writing(cache.folder):
        try:
            commit, listing = patiently(lambda: _list_files(source, patience), patience)
            files = _selected(source, commit, listing)
            with locked(cache.folder / ".duovec.lock"):
                cache.record(source.revision, commit, listing)
                if needed := _check_space(cache, files):
                    on_download(needed)
                digests = _bring(source, cache, commit, files, on_progress, patience)
        except (HfHubHTTPError, httpx2.TransportError, HFValidationError) as exc:
            _explain(exc, source, patience)
    return cache.snapshot(commit), commit, digests


def _list_files(source: HubSource, patience: Patience) -> tuple[str, list[HubFile]]:
    info = HfApi(endpoint=constants.ENDPOINT).model_info(
        source.repository, revision=source.revision, files_metadata=True, timeout=patience.stall_s
    )
    try:
        files = [
            HubFile(one.rfilename, one.lfs.size, one.lfs.sha256)
            if one.lfs
            else HubFile(one.rfilename, int(one.size or 0), str(one.blob_id))
            for one in info.siblings or []
        ]
        if not COMMIT.fullmatch(str(info.sha)):
            raise ValueError(f"{info.sha!r} is not a commit")
    except (ValueError, TypeError) as exc:
        raise ExportError(f"{constants.ENDPOINT} does not answer as a hub does: {exc}; check HF_ENDPOINT") from exc
    return str(info.sha), files


def _selected(source: HubSource, commit: str, listing: list[HubFile]) -> list[HubFile]:
    files = select(listing, source.files)
    if missing := unmatched(files, source.files):
        raise ExportError(f"{source.repository} at {commit} has no {', '.join(missing)}; check `files` of the spec")
    return files


def _bring(
    source: HubSource,
    cache: HubCache,
    commit: str,
    files: list[HubFile],
    on_progress: OnProgress,
    patience: Patience,
) -> dict[str, str]:
    total, done, digests = sum(file.size for file in files), 0, {}
    (cache.folder / "blobs").mkdir(exist_ok=True)
    for file in files:
        sha256 = _intact(file, cache.blob(file))
        if sha256 is None:
            url = hf_hub_url(source.repository, file.path, revision=commit, endpoint=constants.ENDPOINT)
            fetch(url, cache.partial(file), file.size, patience, partial(_report, on_progress, done, total))
            sha256 = _intact(file, cache.partial(file))
            if sha256 is None:
                cache.partial(file).unlink()
                raise ExportError(
                    f"{file.path} of {source.repository} came damaged: its digest is not {file.digest}, which the hub "
                    "states; what came is removed, run the command again"
                )
            cache.keep(file)
        cache.link(commit, file)
        digests[file.path] = sha256
        done += file.size
        on_progress(done, total)
    return digests


def _report(on_progress: OnProgress, before: int, total: int, size: int) -> None:
    on_progress(before + size, total)


def _intact(file: HubFile, path: Path) -> str | None:
    """The SHA-256 of a file that has its size and digest, else None."""
    if not path.is_file() or path.stat().st_size != file.size:
        return None
    sha256, git_id = digests_of(path)
    return sha256 if file.digest in (sha256, git_id) else None


def _check_space(cache: HubCache, files: list[HubFile]) -> int:
    """The bytes that are still to be fetched, for which there must be room."""
    needed = 0
    for file in files:
        if not cache.blob(file).is_file():
            path = cache.partial(file)
            needed += file.size - (path.stat().st_size if path.is_file() else 0)
    free = shutil.disk_usage(cache.folder).free
    if needed > free:
        raise ExportError(
            f"the download needs {needed / 1e9:.1f} GB in {cache.folder}, {free / 1e9:.1f} GB are free; "
            "free some space, or name another folder (HF_HOME)"
        )
    return needed


def _from_cache(source: HubSource, cache: HubCache) -> tuple[Path, str, dict[str, str]]:
    how = (
        f"run the command once with a network and without offline mode, or copy {cache.folder} from a machine that did"
    )
    commit = cache.commit_of(source.revision)
    if commit is None or not cache.snapshot(commit).is_dir():
        raise ExportError(f"{source.repository} at {source.revision} is not in the cache {cache.folder.parent}; {how}")
    root = cache.snapshot(commit)
    files = select(cache.listing(commit) or cache.found(commit), source.files)
    missing = [*unmatched(files, source.files), *(file.path for file in files if not (root / file.path).is_file())]
    if missing:
        raise ExportError(f"{root} lacks {', '.join(missing)}; {how}")
    digests = {}
    for file in files:
        sha256 = _intact(file, root / file.path)
        if sha256 is None:
            raise ExportError(f"{root / file.path} is damaged: its digest is not {file.digest}; remove it, then {how}")
        digests[file.path] = sha256
    return root, commit, digests


def _explain(
    exc: HfHubHTTPError | httpx2.TransportError | HFValidationError, source: HubSource, patience: Patience
) -> NoReturn:
    hub, name = constants.ENDPOINT, source.repository
    match exc:
        case HFValidationError():
            message = f"{name!r} is not a name of a repository on the hub; check `source` of the spec"
        case GatedRepoError():
            message = f"{name} is gated: accept its terms at {hub}/{name}, then set HF_TOKEN to a token of that account"
        case RevisionNotFoundError():
            message = f"{name} has no revision {source.revision}; see {hub}/{name}/commits/main"
        case RepositoryNotFoundError():
            message = f"{hub} has no repository {name}, or it is private and HF_TOKEN gives no access to it"
        case HfHubHTTPError() if exc.response.status_code in (401, 403):
            message = f"{hub} refuses {name} ({exc.response.status_code}): check HF_TOKEN"
        case HfHubHTTPError():
            url = exc.response.url.copy_with(query=None)  # which may be a signature
            message = f"{hub} answered {exc.response.status_code} for {url}; run the command again later"
        case _:
            message = (
                f"no connection to {hub} that lasts ({type(exc).__name__}: {exc}), tried {patience.tries} times; run "
                "the command again to go on where it stopped, or use --offline with what is cached"
            )
    raise ExportError(message) from exc
