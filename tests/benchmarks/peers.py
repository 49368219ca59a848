"""How duovec compares with sentence-transformers and infinity on the same two checkpoints: a table, and one JSON line.

Usage: python -m tests.benchmarks.peers [--repository .duovec/model_repository] [--quick]
Makes the peers' environments in .duovec/benchmarks/peers, starts its own stack, keeps the figures in
results/peers.json; --quick only shows that it runs, and keeps nothing.

Every way turns the same texts into vectors of both encoders. A peer, and the bound, runs them one after the other or
both at the same time, whichever is faster. All take turns, so that the machine's moods hit all alike; medians. A way
whose vectors differ from those of sentence-transformers in fp32 is timed, and not compared: so is duovec with int8
encoders, which are published for it.
"""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer as HubTokenizer

from export.serving import BF16_FLAGS, cpu_flags
from export.spec import load_builtin
from gateway.client.client import Client
from gateway.embedding.space import Space, passage_of
from gateway.local.stack import Stack, StackSettings
from tests.benchmarks.keeping import keep, rounded
from tests.benchmarks.peers_checkpoint import write_checkpoint
from tests.benchmarks.peers_environment import environment
from tests.benchmarks.throughput import Bound, real_chunks, seconds, stream_embed

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".duovec" / "benchmarks" / "peers"
ENCODERS = ("compact-code", "compact-text")
# Kind, which is also its environment, and variant of the worker.
PEERS = {
    "sentence-transformers": ("sentence-transformers", "fp32"),
    "sentence-transformers bf16": ("sentence-transformers", "bf16"),
    "infinity torch": ("infinity", "torch"),
    "infinity ONNX": ("infinity", "onnx"),
}
LEAST_COSINE = 0.99
NATURAL = "natural"
# Texts of exactly so many tokens, special ones included.
FIXED = {8: 256, 32: 256, 128: 96, 512: 32}


@dataclass
class Served:
    """A pair of encoders that is served, and itself."""

    bound: Bound
    stack: Stack


@dataclass
class Way:
    """A way from texts to vectors of both encoders, and what was measured of it."""

    run: Callable[[list[str], bool], float]
    """Seconds for texts; both encoders at once or in turns."""
    has_choice: bool = True
    at_once: bool = False
    comparable: bool = True
    facts: dict[str, Any] = field(default_factory=dict)
    taken: dict[str, list[float]] = field(default_factory=dict)


class Peer:
    """A peer's process."""

    def __init__(self, name: str, folders: Sequence[Path], stack: ExitStack) -> None:
        kind, variant = PEERS[name]
        python = environment(kind, FOLDER)
        command = [python, "-P", Path(__file__).with_name("peers_worker.py"), kind, variant, *folders]
        settings = os.environ | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(FOLDER / "hub"), "DO_NOT_TRACK": "1"}
        log_path = FOLDER / f"{name}.log"
        log = stack.enter_context(log_path.open("w"))
        self._process = stack.enter_context(
            subprocess.Popen(
                list(map(str, command)),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=settings,
            )
        )
        self._log_path = log_path
        self.versions = self._answer()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the peer exited; its log is {self._log_path}")
        return json.loads(line)

    def run(self, texts: list[str], at_once: bool, vectors: Path | None = None) -> float:
        """Seconds for texts; with `vectors` they are kept in that .npz file."""
        assert self._process.stdin is not None
        asked = {"texts": texts, "at_once": at_once, "vectors": None if vectors is None else str(vectors)}
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        taken: float = self._answer()["seconds"]
        return taken


@contextmanager
def open_peers(folders: Sequence[Path]) -> Iterator[dict[str, Peer]]:
    """Every peer, loaded."""
    with ExitStack() as stack:
        yield {name: Peer(name, folders, stack) for name in PEERS}


def fixed_texts(tokenizer: HubTokenizer, source: str, tokens: int) -> list[str]:
    """Different pieces of code that have exactly so many tokens."""
    offsets = tokenizer.encode(source, add_special_tokens=False).offsets
    size = tokens - tokenizer.num_special_tokens_to_add(is_pair=False)
    pieces = [
        source[offsets[start][0] : offsets[start + size - 1][1]] for start in range(0, len(offsets) - size, size + 1)
    ]
    lengths = [len(one.ids) for one in tokenizer.encode_batch(pieces)]
    return list(dict.fromkeys(piece for piece, length in zip(pieces, lengths, strict=True) if length == tokens))


def scenarios(tokenizer: HubTokenizer, chunks: int, rounds: int, divisor: int) -> list[dict[str, list[str]]]:
    """The texts of each round; none comes twice, so that none comes from the cache."""
    passages = [passage_of(chunk.symbol, chunk.content) for chunk in real_chunks(chunks)]
    source = "\n".join(passage_of(chunk.symbol, chunk.content) for chunk in real_chunks(4000))
    fixed = {tokens: fixed_texts(tokenizer, source, tokens) for tokens in FIXED}
    found = []
    for number in range(rounds):
        texts = {NATURAL: [f"{number}\n{text}" for text in passages]}
        for tokens, most in FIXED.items():
            count = max(1, most // divisor)
            texts[f"{tokens} tokens"] = fixed[tokens][number * count :][:count]
            assert len(texts[f"{tokens} tokens"]) == count
        found.append(texts)
    return found


def least_cosine(peer: Peer, client: Client, texts: list[str]) -> float:
    """Between a peer's vectors and duovec's, over texts and encoders.

    Peers know no words part, which takes its share of duovec's norm. Its directions are random: nearly orthogonal to
    what peers give, so that cosines are off by up to half a percent (0.9957 where the encoder without one has 0.9999).
    """
    with tempfile.TemporaryDirectory(prefix="duovec-bench-") as folder:
        path = Path(folder) / "vectors.npz"
        peer.run(texts, False, path)
        with np.load(path) as file:
            theirs = [file[name].astype(np.float32) for name in file.files]
    ours = np.split(client.embed(texts, "passage", truncate=True), [theirs[0].shape[1]], axis=1)
    cosines = []
    for name, one, other in zip(ENCODERS, ours, theirs, strict=True):
        assert one.shape == other.shape, f"{other.shape} instead of {one.shape}"
        words = load_builtin(name).words
        meaning = (1.0 - words.share) ** 0.5 if words else 1.0
        found = (one * other).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(other, axis=1) / meaning
        cosines.append(1.0 - np.abs(found - 1.0))
    return float(np.min(cosines))


def measure(ways: dict[str, Way], rounds: Sequence[dict[str, list[str]]], sample: int) -> None:
    """Choose each way's better mode on a sample of real code, then time all in turns."""
    some = rounds[0][NATURAL][:: max(1, len(rounds[0][NATURAL]) // sample)][:sample]
    for name, way in ways.items():
        way.run([f"warm {text}" for text in some[: sample // 3]], False)
        if way.has_choice:
            modes = {at_once: way.run(some, at_once) for at_once in (False, True)}
            way.at_once = modes[True] < modes[False]
            way.facts |= {f"{'at once' if at_once else 'in turns'}, s": taken for at_once, taken in modes.items()}
        print(f"{name}: {way.facts}", file=sys.stderr)
    for number, texts in enumerate(rounds):
        for scenario, those in texts.items():
            for name, way in ways.items():
                way.taken.setdefault(scenario, []).append(way.run(those, way.at_once))
                print(f"round {number + 1}, {scenario}: {name} {way.taken[scenario][-1]:.2f} s", file=sys.stderr)


def report(ways: dict[str, Way], texts: dict[str, list[str]], tokens: dict[str, float]) -> dict[str, Any]:
    """Rates of every way, and how many times faster duovec is; prints the table."""
    rates = {
        name: {scenario: len(texts[scenario]) / statistics.median(taken) for scenario, taken in way.taken.items()}
        for name, way in ways.items()
    }
    figures: dict[str, Any] = {}
    print(f"{'texts/s, both encoders':<42}" + "".join(f"{scenario:>14}" for scenario in texts))
    print(f"{'tokens a text':<42}" + "".join(f"{tokens[scenario]:>14.1f}" for scenario in texts))
    for name, way in ways.items():
        print(f"{name:<42}" + "".join(f"{rate:>14.2f}" for rate in rates[name].values()))
        figures[name] = {
            **way.facts,
            "both encoders at once": way.at_once,
            "texts/s": rounded(rates[name]),
            "tokens/s": rounded({scenario: rate * tokens[scenario] for scenario, rate in rates[name].items()}),
        }
    for ours in ("StreamEmbed", "bound"):
        for name in PEERS:
            if not ways[name].comparable:
                print(f"{ours} / {name}: not compared, its vectors differ ({ways[name].facts['least cosine']})")
                continue
            ratios = {scenario: rates[ours][scenario] / rates[name][scenario] for scenario in texts}
            print(f"{f'{ours} / {name}':<42}" + "".join(f"{ratio:>13.2f}x" for ratio in ratios.values()))
            figures[name][f"{ours} / it"] = rounded(ratios)
    # For who would take other vectors; see "least cosine".
    for name in PEERS:
        ratios = {scenario: rates["StreamEmbed int8"][scenario] / rates[name][scenario] for scenario in texts}
        print(f"{f'StreamEmbed int8 / {name}':<42}" + "".join(f"{ratio:>13.2f}x" for ratio in ratios.values()))
        figures[name]["StreamEmbed int8, other vectors / it"] = rounded(ratios)
    return figures


def ways_of(served: Served) -> tuple[Way, Way]:
    """Its encoders in this process, and by the service."""
    bound, endpoint, api_key = served.bound, served.stack.endpoint, served.stack.api_key

    def of_bound(texts: list[str], at_once: bool) -> float:
        rows = asyncio.run(bound.rows(texts))
        return seconds(lambda: (bound.at_once if at_once else bound.in_turns)(rows))

    def by_stream(texts: list[str], at_once: bool) -> float:
        return seconds(lambda: stream_embed(endpoint, api_key, texts))

    return Way(of_bound), Way(by_stream, has_choice=False, at_once=True)


def run(peers: dict[str, Peer], served: Served, int8: Served, tokenizer: HubTokenizer, quick: bool) -> dict[str, Any]:
    """Verify that all give the same vectors, measure, print."""
    rounds = scenarios(tokenizer, 24 if quick else 600, 1 if quick else 3, 16 if quick else 1)
    judged = [f"cosine\n{text}" for texts in rounds[0].values() for text in texts[:: max(1, len(texts) // 4)][:4]]
    ways: dict[str, Way] = {}
    ways["bound"], ways["StreamEmbed"] = ways_of(served)
    ways["bound int8"], ways["StreamEmbed int8"] = ways_of(int8)
    with Client(served.stack.endpoint, api_key=served.stack.api_key) as client:
        for name, peer in peers.items():
            cosine = least_cosine(peer, client, judged)
            facts = {"versions": peer.versions, "least cosine": round(cosine, 6)}
            ways[name] = Way(peer.run, comparable=cosine >= LEAST_COSINE, facts=facts)
    with Client(int8.stack.endpoint, api_key=int8.stack.api_key) as client:
        cosine = least_cosine(peers["sentence-transformers"], client, judged)
    ways["StreamEmbed int8"].facts |= {"precision": int8_precision(), "least cosine": round(cosine, 6)}
    measure(ways, rounds, 12 if quick else 96)
    rows = {scenario: asyncio.run(served.bound.rows(texts))[0] for scenario, texts in rounds[0].items()}
    return report(ways, rounds[0], {scenario: float(one.lengths.mean()) for scenario, one in rows.items()})


def int8_precision() -> str:
    """The fastest that this CPU has."""
    return "int8-bf16" if cpu_flags() & BF16_FLAGS else "int8"


def int8_repository() -> Path:
    """The same pair with int8 encoders, published where it is missing."""
    folder = FOLDER / int8_precision()
    command = ["duovec-export", "publish", "--pair", "compact", "--precision", int8_precision(), "--if-missing"]
    subprocess.run([Path(sys.executable).with_name(command[0]), *command[1:], "--repository", folder], check=True)
    return folder


@asynccontextmanager
async def serving(repository: Path, data_dir: Path) -> AsyncIterator[Served]:
    """A stack that serves a repository's pair."""
    settings = StackSettings(data_dir=data_dir, model_repository=repository, listen="127.0.0.1:0")
    bound = Bound(Space.load(repository, code_encoder=ENCODERS[0], text_encoder=ENCODERS[1]))
    async with Stack(settings) as stack:
        yield Served(bound, stack)


async def main() -> None:
    """Start the stacks and the peers, measure, stop, keep."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repository", type=Path, default=ROOT / ".duovec" / "model_repository")
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args()
    space = Space.load(options.repository, code_encoder=ENCODERS[0], text_encoder=ENCODERS[1])
    tokenizer = HubTokenizer.from_file(str(space.code.tokenizer_path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    int8 = int8_repository()
    with tempfile.TemporaryDirectory(prefix="duovec-bench-") as folder:
        os.chmod(folder, 0o755)  # noqa: PTH101 - PostgreSQL's account must be able to enter
        checkpoints = [write_checkpoint(encoder, Path(folder) / "peers" / encoder) for encoder in ENCODERS]
        with open_peers(checkpoints) as peers:
            async with (
                serving(options.repository, Path(folder) / "stack") as served,
                serving(int8, Path(folder) / "int8") as served_int8,
            ):
                figures = await asyncio.to_thread(run, peers, served, served_int8, tokenizer, options.quick)
    keep("peers", {"ways": figures}, only_print=options.quick)


if __name__ == "__main__":
    asyncio.run(main())
