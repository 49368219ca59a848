"""A proof is of what the manifest states: nothing of it can be another before the gate, or after it."""

import json
from collections.abc import Mapping
from typing import Any

import pytest

from export.build import BuildRequest, matching_candidate
from export.errors import ExportError
from export.gate.settings import GateSettings
from export.proof import is_proven_by, prove_candidate
from export.repository import EncoderFolder
from export.source import Checkpoint
from export.version import damaged_files, is_proven, write_manifest

QUICK = GateSettings(longest_bucket=16, pairs=20)
Built = tuple[EncoderFolder, BuildRequest, Checkpoint]


def edit(folder: EncoderFolder, **changes: object) -> Mapping[str, Any]:
    """Set fields of the candidate's manifest by hand; gives the manifest before."""
    candidate = folder.candidate()
    assert candidate is not None
    write_manifest(candidate.folder, {**candidate.manifest, **changes})
    return candidate.manifest


@pytest.mark.parametrize(
    "changes",
    [
        {"spec": {"prompts": {"query": "Find: ", "passage": ""}}},
        {"precision": "fp16"},
        {"role": "code"},
        {"serving": {"backend": "python", "num_threads": 9, "max_batch_size": 64, "length_buckets": []}},
    ],
)
def test_the_gate_proves_no_other_manifest_than_the_build_wrote(
    small_candidate: Built, changes: dict[str, object]
) -> None:
    """The gate takes prompts from the spec, the gateway from the manifest: they must be the same."""
    folder, request, checkpoint = small_candidate
    before = edit(folder, **changes)
    with pytest.raises(ExportError, match=rf"manifest\.json: {next(iter(changes))} is not what the build writes"):
        prove_candidate(folder, request, checkpoint, QUICK)
    edit(folder, **before)


def test_a_tokenizer_that_differs_in_one_rare_token_is_not_the_checkpoints(small_candidate: Built) -> None:
    """No text of the gate has it."""
    folder, request, checkpoint = small_candidate
    path = folder.path / ".candidate" / "tokenizer.json"
    before = path.read_text(encoding="utf-8")
    table = json.loads(before)
    vocabulary = table["model"]["vocab"]
    vocabulary["あ"], vocabulary["い"] = vocabulary["い"], vocabulary["あ"]
    path.write_text(json.dumps(table), encoding="utf-8")
    with pytest.raises(ExportError, match=r"tokenizer\.json is not the tokenizer of .*checkpoint; build it again"):
        prove_candidate(folder, request, checkpoint, QUICK)
    path.write_text(before, encoding="utf-8")


def test_what_is_proven_is_the_manifest_as_it_was(small_candidate: Built) -> None:
    """One prompt changed afterwards, and the candidate is neither proven, nor whole, nor taken up again."""
    folder, request, checkpoint = small_candidate
    proven, _ = prove_candidate(folder, request, checkpoint, QUICK)
    assert is_proven_by(proven, QUICK) and damaged_files(proven) == []
    assert matching_candidate(folder, request, checkpoint) is not None
    spec = json.loads(json.dumps(proven.manifest["spec"]))
    spec["prompts"]["query"] = "Find: "
    edit(folder, spec=spec)
    candidate = folder.candidate()
    assert candidate is not None
    assert not is_proven(candidate)
    assert damaged_files(candidate) == [candidate.folder / "manifest.json"]
    assert matching_candidate(folder, request, checkpoint) is None
    edit(folder, spec=proven.manifest["spec"])
