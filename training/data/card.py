"""The card of a data set: what is in it, what was left out, and from what it was made."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from training.data.mining import MinedSet, MiningSettings
from training.data.parquet import FORMAT, digest_of
from training.data.sources import Origin
from training.data.unit import SPLITS, STYLES, Example, Split

_FEW = 100
_COLUMNS = """
Columns: `query`; `positive` is the code as the gateway embeds it (symbol path, then content), without the query's own
text; `positive_blanked` the same without its name; `negatives` are other passages of the same split, hardest first;
examples with equal `unit` have the same right answer; `rows` says what query and answer were made from,
`negative_rows` what the negatives were, `scope` which codebases one must be allowed to read for all of them. Of
`symbol` queries `positive` and `negatives` are blanked, too.
"""


def make_card(
    mined: MinedSet, settings: MiningSettings, origins: Sequence[Origin], *, negatives_by: Sequence[str]
) -> dict[str, Any]:
    """Describe a set for programs; it depends on the set alone, so that equal sets have equal cards.

    Args:
        mined: The set.
        settings: How it was made.
        origins: From what.
        negatives_by: What found the hard negatives, the most trusted first.
    """
    examples = [example for split in SPLITS for example in mined.examples[split]]
    return {
        "format": FORMAT,
        "sha256": digest_of(mined.examples),
        "settings": asdict(settings),
        "sources": [asdict(origin) for origin in origins],
        "negatives_by": list(negatives_by),
        "scope": sorted({codebase for example in examples for codebase in example.scope}),
        "examples": {split: len(mined.examples[split]) for split in SPLITS},
        "units": {split: len({example.unit for example in mined.examples[split]}) for split in SPLITS},
        "styles": {split: _count(mined.examples[split], "query_style") for split in SPLITS},
        "languages": {split: _count(mined.examples[split], "language") for split in SPLITS},
        "packages": {split: _count(mined.examples[split], "package") for split in SPLITS},
        "without_negatives": sum(not example.negatives for example in examples),
        "warnings": warnings_of(mined.examples),
        "counts": dict(sorted(mined.counts.items())),
    }


def warnings_of(by_split: Mapping[Split, Sequence[Example]]) -> list[str]:
    """What somebody who trains on a set should know."""
    examples = [example for split in SPLITS for example in by_split[split]]
    languages = Counter(example.language for example in examples)
    styles = {example.query_style for example in examples}
    found = []
    if len(languages) == 1:
        found.append(f"every example is {next(iter(languages))}: nothing is learned or measured for other languages")
    if len(styles) == 1:
        found.append(f"every query is a {next(iter(styles))}: a model learns that style, and may lose on others")
    return found + [
        f"only {len(by_split[split])} examples for {split}: differences between models will be chance"
        for split in ("dev", "test")
        if len(by_split[split]) < _FEW
    ]


def make_readme(card: Mapping[str, Any]) -> str:
    """Describe a set for readers, as Markdown: what `make_card` gave."""
    sources = [f"{one['name']} {one['version']}".strip() for one in card["sources"]]
    held_out = ", ".join(sorted(card["packages"]["test"]))
    filters = "\n".join(f"| {name} | {count:,} |" for name, count in card["counts"].items())
    lines = [
        "# (query, code) examples from real source code",
        "",
        f"SHA-256 of the rows: `{card['sha256']}`. Made by `duovec-train mine` with {_settings(card)}.",
        "",
        "| query style | " + " | ".join(SPLITS) + " |",
        "|---|" + "---:|" * len(SPLITS),
        *(
            f"| {style} | " + " | ".join(f"{card['styles'][split].get(style, 0):,}" for split in SPLITS) + " |"
            for style in STYLES
        ),
        "| **all** | " + " | ".join(f"**{card['examples'][split]:,}**" for split in SPLITS) + " |",
        "| packages | " + " | ".join(f"{len(card['packages'][split]):,}" for split in SPLITS) + " |",
        "",
        "Languages: " + "; ".join(f"{split} {_list(card['languages'][split])}" for split in SPLITS) + ".",
        "",
        *(f"Note: {warning}.\n" for warning in card["warnings"]),
        _COLUMNS.strip(),
        "",
        f"Held out for the test: {held_out}.",
        "",
        f"Sources: {', '.join(sources)}.",
        "",
        "What was read, and what each filter left out:",
        "",
        "| | count |",
        "|---|---:|",
        filters,
        "",
    ]
    return "\n".join(lines)


def _settings(card: Mapping[str, Any]) -> str:
    settings = card["settings"]
    return (
        f"seed {settings['seed']}, at most {settings['package_cap']:,} examples a package and {settings['negatives']} "
        f"hard negatives an example, found by {', then by '.join(card['negatives_by'])}"
    )


def _count(examples: Sequence[Example], column: str) -> dict[str, int]:
    return dict(sorted(Counter(str(getattr(example, column)) for example in examples).items()))


def _list(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items(), key=lambda one: -one[1]))
