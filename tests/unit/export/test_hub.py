"""Downloads from a hub that cuts, fails, lies and refuses."""

import dataclasses
import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import huggingface_hub
import pytest
from hub_server import COMMIT, Hub, running

from export.errors import ExportError
from export.hub import download
from export.hub_transfer import Patience
from export.spec import HubSource

SOURCE = HubSource("tiny/encoder", "main", ("config.json", "tokenizer.json", "*.safetensors", "*/adapter.safetensors"))
PATIENCE = Patience(tries=3, first_wait_s=0.001, longest_wait_s=0.01, stall_s=5.0)
WEIGHTS = bytes(range(256)) * 12_000  # 3 MB: more than one chunk
FILES = {
    "config.json": b'{"model_type": "bert"}',
    "tokenizer.json": b"{}",
    "model.safetensors": WEIGHTS,
    "retrieval_query/adapter.safetensors": b"adapter" * 10,
    "onnx/deep/model.safetensors": b"not asked for",
    "README.md": b"not asked for either",
}
WANTED = {name: content for name, content in FILES.items() if b"not asked" not in content}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    with running(Hub(dict(FILES))) as hub:
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield hub
        huggingface_hub.close_session()


def fetched(tmp_path: Path, **changes: object) -> tuple[Path, str, dict[str, str]]:
    return download(SOURCE, cache_dir=tmp_path, patience=PATIENCE, **changes)  # type: ignore[arg-type]


def test_files_arrive_whole_and_their_digests_are_returned(hub: Hub, tmp_path: Path) -> None:
    """Exactly the files that the patterns name; a `*` stays within one folder."""
    folder, commit, digests = fetched(tmp_path)
    assert commit == COMMIT
    assert digests == {name: hashlib.sha256(content).hexdigest() for name, content in WANTED.items()}
    found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert found == WANTED


def test_huggingface_hub_finds_what_was_downloaded(hub: Hub, tmp_path: Path) -> None:
    """One cache on the machine: transformers and the hub's own tools take the weights from it, offline."""
    folder, _, _ = fetched(tmp_path)
    theirs = huggingface_hub.snapshot_download(
        "tiny/encoder", revision="main", cache_dir=tmp_path, local_files_only=True, allow_patterns=["config.json"]
    )
    assert Path(theirs) == folder
    path = huggingface_hub.try_to_load_from_cache("tiny/encoder", "model.safetensors", cache_dir=tmp_path)
    assert isinstance(path, str)
    assert Path(path).read_bytes() == WEIGHTS


def test_a_second_download_fetches_no_content(hub: Hub, tmp_path: Path) -> None:
    """Gigabytes are paid for once; the digests are checked each time."""
    first = fetched(tmp_path)
    hub.requests.clear()
    assert fetched(tmp_path) == first
    assert [path for path, _ in hub.requests] == ["/api/models/tiny/encoder/revision/main"]


def test_a_cut_connection_goes_on_where_it_stopped(hub: Hub, tmp_path: Path) -> None:
    """The second request asks for the rest alone, and the file is whole."""
    hub.faults["model.safetensors"].append("cut 2000000")
    folder, _, _ = fetched(tmp_path)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    first, second = hub.ranges("model.safetensors")
    assert (first, second) == ("", "bytes=2000000-")


def test_an_interrupted_run_goes_on_in_the_next_one(hub: Hub, tmp_path: Path) -> None:
    """What a failed command left is not fetched again by the next command."""
    hub.faults["model.safetensors"].extend(["cut 1000000", "503", "503"])
    with pytest.raises(ExportError, match=r"answered 503 for http://127.0.0.1:\d+/lfs/\w+; run the command again"):
        fetched(tmp_path)  # without the signature of the address
    hub.requests.clear()
    folder, _, _ = fetched(tmp_path)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert hub.ranges("model.safetensors") == ["bytes=1000000-"]


def test_tries_count_anew_with_every_byte(hub: Hub, tmp_path: Path) -> None:
    """A bad line that moves on gets there, however often it breaks."""
    hub.faults["model.safetensors"].extend(["cut 500000"] * 6)
    folder, _, _ = fetched(tmp_path)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


def test_a_server_that_ignores_the_range_starts_the_file_anew(hub: Hub, tmp_path: Path) -> None:
    """The beginning is not there twice, and nothing is fetched a third time."""
    hub.faults["model.safetensors"].extend(["cut 1000000", "whole"])
    folder, _, _ = fetched(tmp_path)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS
    assert hub.ranges("model.safetensors") == ["", "bytes=1000000-"]


@pytest.mark.parametrize("where", ["api", "config.json", "model.safetensors"])
def test_overload_passes(hub: Hub, tmp_path: Path, where: str) -> None:
    """503 and 429, and then an answer."""
    hub.faults[where].extend(["503", "429"])
    folder, _, _ = fetched(tmp_path)
    assert (folder / "config.json").read_bytes() == FILES["config.json"]


def test_silence_has_a_deadline(hub: Hub, tmp_path: Path) -> None:
    """A connection that says nothing more counts as broken, and is taken up again."""
    hub.faults["model.safetensors"].append("silent")
    patience = dataclasses.replace(PATIENCE, stall_s=0.2)
    folder, _, _ = download(SOURCE, cache_dir=tmp_path, patience=patience)
    assert (folder / "model.safetensors").read_bytes() == WEIGHTS


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_a_wrong_digest_is_refused_and_nothing_of_it_stays(hub: Hub, tmp_path: Path, name: str) -> None:
    """Large files go by SHA-256, small ones by their Git object id; the next run fetches the file anew."""
    hub.faults[name].append("damaged")
    with pytest.raises(ExportError, match=f"{name} of tiny/encoder came damaged: its digest is not [0-9a-f]+"):
        fetched(tmp_path)
    assert not list(tmp_path.rglob("*.partial"))
    folder, _, _ = fetched(tmp_path)
    assert (folder / name).read_bytes() == FILES[name]


def test_damage_in_the_cache_is_mended_online_and_refused_offline(hub: Hub, tmp_path: Path) -> None:
    """A flipped bit on the disk is no silent change of every vector."""
    folder, _, _ = fetched(tmp_path)
    blob = (folder / "model.safetensors").resolve()
    blob.write_bytes(WEIGHTS[:-1] + b"?")
    with pytest.raises(ExportError, match=r"model\.safetensors is damaged: .*; remove it"):
        fetched(tmp_path, offline=True)
    fetched(tmp_path)
    assert blob.read_bytes() == WEIGHTS


def test_offline_takes_the_cache_and_asks_nobody(hub: Hub, tmp_path: Path) -> None:
    """The same answer as online, from the disk."""
    online = fetched(tmp_path)
    hub.requests.clear()
    assert fetched(tmp_path, offline=True) == online
    assert hub.requests == []


def test_offline_without_a_cache_says_what_to_do(hub: Hub, tmp_path: Path) -> None:
    """No traffic, and a next step."""
    with pytest.raises(ExportError, match=r"tiny/encoder at main is not in the cache .*; run the command once with"):
        fetched(tmp_path, offline=True)
    assert hub.requests == []


def test_offline_names_every_file_that_an_interrupted_download_lacks(hub: Hub, tmp_path: Path) -> None:
    """Half an encoder is none: adapters that a pattern stands for are missed by name."""
    hub.faults["retrieval_query/adapter.safetensors"].extend(["500"] * 3)
    with pytest.raises(ExportError, match="answered 500"):
        fetched(tmp_path)
    with pytest.raises(ExportError, match=r"5{40} lacks retrieval_query/adapter\.safetensors; run the command once"):
        fetched(tmp_path, offline=True)


def test_offline_takes_what_another_tool_downloaded(hub: Hub, tmp_path: Path) -> None:
    """Weights that transformers fetched need no second download."""
    folder, commit, digests = fetched(tmp_path)
    (folder.parents[1] / "duovec" / f"{commit}.json").unlink()
    assert fetched(tmp_path, offline=True) == (folder, commit, digests)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ExportError, match=r"lacks tokenizer\.json"):
        fetched(tmp_path, offline=True)


@pytest.mark.parametrize(
    ("source", "fault", "message"),
    [
        (
            HubSource("tiny/encoder", "v9", SOURCE.files),
            "",
            r"tiny/encoder has no revision v9; see http.*/commits/main",
        ),
        (
            HubSource("tiny/other", "main", SOURCE.files),
            "",
            "has no repository tiny/other, or it is private and HF_TOKEN",
        ),
        (SOURCE, "gated", "tiny/encoder is gated: accept its terms at http.*/tiny/encoder, then set HF_TOKEN"),
        (SOURCE, "403", r"refuses tiny/encoder \(403\): check HF_TOKEN"),
        (HubSource("not a name", "main", SOURCE.files), "", "'not a name' is not a name of a repository"),
        (
            HubSource("tiny/encoder", "main", ("absent.json",)),
            "",
            "5{40} has no absent.json; check `files` of the spec",
        ),
    ],
)
def test_a_refusal_is_one_line_with_the_next_step(
    hub: Hub, tmp_path: Path, source: HubSource, fault: str, message: str
) -> None:
    """And is not tried again."""
    hub.faults["api"].extend([fault] if fault else [])
    with pytest.raises(ExportError, match=message) as caught:
        download(source, cache_dir=tmp_path, patience=PATIENCE)
    assert "\n" not in str(caught.value)
    assert len(hub.requests) <= 1


def test_terms_that_only_the_files_are_behind_are_told_too(hub: Hub, tmp_path: Path) -> None:
    """The hub lists the files of a gated repository to everyone."""
    hub.faults["config.json"].append("gated")
    with pytest.raises(ExportError, match="tiny/encoder is gated: accept its terms"):
        fetched(tmp_path)


def test_no_connection_says_where_to_and_how_often(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A hub that nobody listens for; the cache is not touched."""
    with running(Hub({})) as gone:
        pass
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", gone.url)
    with pytest.raises(ExportError, match=rf"no connection to {gone.url} that lasts .*tried 3 times; .*--offline"):
        fetched(tmp_path)
    assert not list(tmp_path.iterdir())


def test_something_that_is_no_hub_is_told_apart(hub: Hub, tmp_path: Path) -> None:
    """A path out of the cache, or a digest that is none, is not followed."""
    hub.files["../escape.json"] = b"x"
    with pytest.raises(ExportError, match=r"does not answer as a hub does: '../escape.json' .*; check HF_ENDPOINT"):
        fetched(tmp_path)


def test_progress_counts_bytes_up_to_the_total(hub: Hub, tmp_path: Path) -> None:
    """For the bar: it never runs backwards over a resumed file, and it ends full."""
    hub.faults["model.safetensors"].append("cut 1500000")
    seen: list[tuple[int, int]] = []
    fetched(tmp_path, on_progress=lambda done, total: seen.append((done, total)))
    total = sum(map(len, WANTED.values()))
    assert {one for _, one in seen} == {total}
    counts = [done for done, _ in seen]
    assert counts == sorted(counts)
    assert counts[-1] == total
    assert any(1_000_000 < count < 1_500_100 for count in counts)


def test_a_full_disk_is_seen_before_the_download(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not after an hour."""
    usage = type("Usage", (), {"free": 1_000_000})()
    monkeypatch.setattr("export.hub.shutil.disk_usage", lambda path: usage)
    with pytest.raises(ExportError, match=r"needs 0\.0 GB in .*, 0\.0 GB are free; free some space"):
        fetched(tmp_path)
    assert hub.ranges("model.safetensors") == []


def test_waits_double_and_follow_the_server() -> None:
    """Back-off, and Retry-After within bounds."""
    patience = Patience(first_wait_s=1.0, longest_wait_s=30.0)
    lost = httpx2.ReadError("reset")
    assert [patience.wait_s(failures, lost) for failures in (1, 2, 3, 9)] == [1.0, 2.0, 4.0, 30.0]
    for asked, waited in (("7", 7.0), ("3600", 30.0), ("tomorrow", 1.0)):
        response = httpx2.Response(503, headers={"Retry-After": asked}, request=httpx2.Request("GET", "http://hub"))
        assert patience.wait_s(1, huggingface_hub.errors.HfHubHTTPError("busy", response=response)) == waited


def test_the_environment_names_the_hub(tmp_path: Path) -> None:
    """HF_ENDPOINT and HF_HOME, as every tool of that world reads them."""
    program = (
        "from export.hub import download; from export.spec import HubSource;"
        "print(download(HubSource('tiny/encoder', 'main', ('config.json',)))[0])"
    )
    with running(Hub(dict(FILES))) as hub:
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path)}
        environment.pop("HF_HUB_CACHE", None)
        done = subprocess.run(
            [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 0, done.stderr
    folder = Path(done.stdout.strip())
    assert folder.is_relative_to(tmp_path)
    assert (folder / "config.json").read_bytes() == FILES["config.json"]
