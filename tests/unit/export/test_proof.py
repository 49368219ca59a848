"""A proof is of what the manifest states: nothing of it can be another before the gate, or after it."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from small_checkpoint import NAME, write_checkpoint, write_spec

from export.build import BuildRequest, build, matching_candidate
from export.errors import ExportError
from export.gate.settings import GateSettings
from export.proof import is_proven_by, prove_candidate
from export.repository import EncoderFolder
from export.serving import Precision, Runtime, Serving
from export.source import Checkpoint, open_checkpoint
from export.spec import load_spec
from export.version import damaged_files, is_proven, write_manifest

QUICK = GateSettings(longest_bucket=16, pairs=20)
Built = tuple[EncoderFolder, BuildRequest, Checkpoint]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    """A candidate of the small checkpoint, fp32 on onnxruntime."""
    root = tmp_path_factory.mktemp("proof")
    spec = load_spec(write_spec(root / "small.toml"))
    checkpoint = open_checkpoint(spec, write_checkpoint(root / "checkpoint", seed=1))
    folder = EncoderFolder(root, NAME)
    request = BuildRequest(spec, Serving(Runtime.ONNXRUNTIME, Precision.FP32, 1), 18)
    with folder.building():
        build(folder, request, checkpoint)
    return folder, request, checkpoint


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
def test_the_gate_proves_no_other_manifest_than_the_build_wrote(built: Built, changes: dict[str, object]) -> None:
    """The gate takes prompts from the spec, the gateway from the manifest: they must be the same."""
    folder, request, checkpoint = built
    before = edit(folder, **changes)
    with pytest.raises(ExportError, match=rf"manifest\.json: {next(iter(changes))} is not what the build writes"):
        prove_candidate(folder, request, checkpoint, QUICK)
    edit(folder, **before)


def test_a_tokenizer_that_differs_in_one_rare_token_is_not_the_checkpoints(built: Built) -> None:
    """No text of the gate has it."""
    folder, request, checkpoint = built
    path = folder.path / ".candidate" / "tokenizer.json"
    before = path.read_text(encoding="utf-8")
    table = json.loads(before)
    vocabulary = table["model"]["vocab"]
    vocabulary["あ"], vocabulary["い"] = vocabulary["い"], vocabulary["あ"]
    path.write_text(json.dumps(table), encoding="utf-8")
    with pytest.raises(ExportError, match=r"tokenizer\.json is not the tokenizer of .*checkpoint; build it again"):
        prove_candidate(folder, request, checkpoint, QUICK)
    path.write_text(before, encoding="utf-8")


def test_what_is_proven_is_the_manifest_as_it_was(built: Built) -> None:
    """One prompt changed afterwards, and the candidate is neither proven, nor whole, nor taken up again."""
    folder, request, checkpoint = built
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
