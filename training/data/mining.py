"""From units to a data set: queries, filters, splits, hard negatives."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from training.data.anatomy import dissect
from training.data.blanking import blank_name
from training.data.calls import Definitions, queries_of_tests
from training.data.drafts import Draft, draft_package
from training.data.duplicates import Duplicates
from training.data.negatives import Asked, PoolSource, choose
from training.data.queries import Query
from training.data.split import split_packages
from training.data.unit import SPLITS, Example, Split, Unit, rank
from training.errors import MIN_TRIPLETS, InsufficientTrainingData

Report = Callable[[str, int, int], None]
"""Is told a stage's name, how much is done, and how much there is."""


@dataclass(frozen=True, slots=True)
class MiningSettings:
    """What a set is made like.

    Attributes:
        seed: Of every choice.
        package_cap: Most examples of one package, so that none is most of the set.
        negatives: Hard negatives an example at most.
        held_out: Packages for the test whatever their hash.
    """

    seed: int = 0
    package_cap: int = 2000
    negatives: int = 3
    held_out: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MinedSet:
    """A data set that is not written yet.

    Attributes:
        examples: By split, in an order that depends on the units alone.
        counts: What was read and what each filter left out.
    """

    examples: Mapping[Split, Sequence[Example]]
    counts: Mapping[str, int]


def mine(
    units: Iterable[Unit],
    settings: MiningSettings,
    *,
    pools: Sequence[PoolSource],
    counts: Counter[str],
    report: Report,
    extra: Mapping[str, Sequence[Query]] | None = None,
) -> MinedSet:
    """Make a data set.

    Args:
        units: Of at least three packages, tests among them.
        settings: How.
        pools: Where hard negatives come from; a later source fills up what an earlier one left.
        counts: Has what reading counted, and is told the rest.
        report: Is told how far it is.
        extra: Queries from elsewhere by the key of the unit that answers them.

    Raises:
        InsufficientTrainingData: Fewer than 100 examples to train on are left.
        TrainingError: There are too few packages to hold some out.
    """
    packages: dict[str, list[Unit]] = defaultdict(list)
    for unit in units:
        packages[unit.package].append(unit)
    report("finding queries", 0, len(packages))
    extra = _merged(extra or {}, _tests_apart(packages))
    refused = {key for queries in extra.values() for query in queries for key in query.negatives}
    known: dict[str, Draft] = {}
    drafts: list[Draft] = []
    names = sorted(packages)
    for number, name in enumerate(names):
        report("finding queries", number, len(names))
        own = draft_package(packages.pop(name), seed=settings.seed, extra=extra, counts=counts)
        known.update((draft.unit.key, draft) for draft in own if draft.unit.key in refused)
        drafts += [draft for draft in own if draft.queries]
    if not drafts:
        raise InsufficientTrainingData(0, "the source")
    sizes = Counter(draft.unit.package for draft in drafts for _ in draft.queries)
    splits = split_packages(sizes, seed=settings.seed, held_out=settings.held_out)
    # The held-out packages come first: of two near duplicates the one that trains is left out.
    drafts.sort(key=lambda draft: (-SPLITS.index(splits[draft.unit.package]), draft.unit.key))
    pairs = _capped(_without_ambiguous(_without_duplicates(drafts, counts, report), counts), settings, counts)
    train_count = sum(splits[draft.unit.package] == "train" for draft, _ in pairs)
    if train_count < MIN_TRIPLETS:
        raise InsufficientTrainingData(train_count, "what is left of the source after the filters")
    examples: dict[Split, list[Example]] = {split: [] for split in SPLITS}
    for number, split in enumerate(SPLITS):
        report("hard negatives", number, len(SPLITS))
        own_pairs = [pair for pair in pairs if splits[pair[0].unit.package] == split]
        own_known = {key: draft for key, draft in known.items() if splits.get(draft.unit.package) == split}
        examples[split] = _with_negatives(own_pairs, own_known, pools, settings.negatives)
    return MinedSet(examples, counts)


def _tests_apart(packages: Mapping[str, Sequence[Unit]]) -> dict[str, list[Query]]:
    """Names of tests that stand in a package of their own, for what they test elsewhere in their source."""
    tests: dict[tuple[str, str], list[Unit]] = defaultdict(list)
    for own in packages.values():
        if all(unit.is_test for unit in own):
            for unit in own:
                tests[unit.path.partition("/")[0], unit.language].append(unit)
    found: dict[str, list[Query]] = defaultdict(list)
    for (origin, language), own in tests.items():
        code = [
            unit
            for units in packages.values()
            for unit in units
            if unit.language == language and unit.path.startswith(f"{origin}/")
        ]
        anatomies = {unit.key: dissect(unit) for unit in own}
        for key, query in queries_of_tests(own, anatomies, Definitions(code)):
            found[key].append(query)
    return found


def _merged(*found: Mapping[str, Sequence[Query]]) -> dict[str, list[Query]]:
    merged: dict[str, list[Query]] = defaultdict(list)
    for one in found:
        for key, queries in one.items():
            merged[key] += queries
    return dict(merged)


def _without_duplicates(drafts: Sequence[Draft], counts: Counter[str], report: Report) -> Iterator[Draft]:
    duplicates = Duplicates()
    for number, draft in enumerate(drafts):
        if number % 1000 == 0:
            report("near duplicates", number, len(drafts))
        # Without names: what differs in its name alone cannot be told apart once names are blanked.
        kind = duplicates.kind_of(blank_name(draft.content, draft.unit.symbol))
        if kind is None:
            yield draft
        else:
            counts[f"units {kind} duplicates"] += 1


def _without_ambiguous(drafts: Iterable[Draft], counts: Counter[str]) -> list[tuple[Draft, Query]]:
    """Leave out queries that several units answer, such as `return a copy`; feedback says itself what answers."""
    drafts = list(drafts)
    answers = Counter(_normal(query.text) for draft in drafts for query in draft.queries if query.style != "feedback")
    pairs = []
    for draft in drafts:
        seen: set[str] = set()
        for query in draft.queries:
            text = _normal(query.text)
            # A docstring and a test name of the same unit may be the same words.
            if text in seen or (answers[text] > 1 and query.style != "feedback"):
                counts[f"{query.style} ambiguous"] += 1
            else:
                seen.add(text)
                pairs.append((draft, query))
    return pairs


def _normal(text: str) -> str:
    return " ".join(text.lower().replace(".", " ").split())


def _capped(
    pairs: Sequence[tuple[Draft, Query]], settings: MiningSettings, counts: Counter[str]
) -> list[tuple[Draft, Query]]:
    """Keep at most so many pairs a package, of every style the same share as far as there are any."""
    packages: dict[str, list[int]] = defaultdict(list)
    for number, (draft, _) in enumerate(pairs):
        packages[draft.unit.package].append(number)
    kept: set[int] = set()
    for own in packages.values():
        turns = Counter[str]()
        order = []
        for number in sorted(own, key=lambda one: _order(pairs[one], settings.seed)):
            style = pairs[number][1].style
            turns[style] += 1
            order.append((turns[style], style, number))
        kept.update(number for *_, number in sorted(order)[: settings.package_cap])
        counts["over the package's cap"] += max(0, len(own) - settings.package_cap)
    return [pair for number, pair in enumerate(pairs) if number in kept]


def _order(pair: tuple[Draft, Query], seed: int) -> float:
    return rank(seed, "cap", pair[1].style, pair[0].unit.key, pair[1].text)


def _with_negatives(
    pairs: Sequence[tuple[Draft, Query]], known: Mapping[str, Draft], pools: Sequence[PoolSource], count: int
) -> list[Example]:
    """Make examples of the pairs of one split: first what is known to be no answer, then what looks like one."""
    languages: dict[str, dict[str, Draft]] = defaultdict(dict)
    for draft, _ in pairs:
        languages[draft.unit.language][draft.unit.key] = draft
    negatives: dict[tuple[str, str], list[Draft]] = {
        (draft.unit.key, query.text): [known[key] for key in query.negatives if key in known] for draft, query in pairs
    }
    for by_key in languages.values():
        drafts = list(by_key.values())
        numbers = {key: number for number, key in enumerate(by_key)}
        asked: list[Asked] = [
            (numbers[draft.unit.key], query.text) for draft, query in pairs if draft.unit.key in numbers
        ]
        for pool_source in pools if count else ():
            for (own, text), pool in zip(asked, pool_source(drafts, asked), strict=True):
                chosen = negatives[drafts[own].unit.key, text]
                taken = {draft.unit.key for draft in chosen}
                left = [one for one in pool if drafts[one].unit.key not in taken]
                chosen += [drafts[one] for one in choose(own, text, left, drafts, count=count - len(chosen))]
    return [_example(draft, query, negatives[draft.unit.key, query.text][:count]) for draft, query in pairs]


def _example(draft: Draft, query: Query, negatives: Sequence[Draft]) -> Example:
    unit = draft.unit
    blanked = blank_name(draft.passage, unit.symbol)
    # A query of the name's words: with names in, it would be a search for the name; blanked ones tell each other apart.
    is_symbol = query.style == "symbol"
    return Example(
        query=query.text,
        positive=blanked if is_symbol else draft.passage,
        positive_blanked=blanked,
        negatives=tuple(blank_name(one.passage, one.unit.symbol) if is_symbol else one.passage for one in negatives),
        query_style=query.style,
        language=unit.language,
        package=unit.package,
        path=unit.path,
        symbol=unit.symbol,
        start_line=unit.start_line,
        end_line=unit.end_line,
        unit=unit.key,
        rows=(*unit.rows, *query.rows),
        negative_rows=tuple(row for one in negatives for row in one.unit.rows),
        # A negative, or another version, may be of another codebase, and then shows its code.
        scope=tuple(sorted({*unit.scope, *query.scope, *(name for one in negatives for name in one.unit.scope)})),
    )
