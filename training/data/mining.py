"""From units to a data set: queries, filters, splits, hard negatives."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from training.data.anatomy import Anatomy, dissect, without_rows
from training.data.blanking import blank_name
from training.data.calls import Definitions, caller_queries, tested_queries
from training.data.duplicates import Duplicates
from training.data.negatives import Candidate, choose, lexical_pools
from training.data.queries import Query, change_query, comment_query, docstring_query, symbol_query
from training.data.split import split_packages
from training.data.unit import SPLITS, Example, Split, Unit, passage_of, rank
from training.data.versions import same_symbol_queries
from training.errors import MIN_TRIPLETS, InsufficientTrainingData

MAX_PASSAGE_CHARS = 1500
"""As long as a chunk of the indexer."""

_MIN_CODE_CHARS, _MIN_CODE_ROWS = 60, 2

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


@dataclass(slots=True)
class Draft:
    """A unit on its way to be an answer.

    Attributes:
        unit: The unit.
        content: Its code without the text of its queries, at most 1,500 characters.
        queries: At most one of each style.
    """

    unit: Unit
    content: str
    queries: list[Query] = field(default_factory=list)

    @property
    def passage(self) -> str:
        """What is embedded."""
        return passage_of(self.unit.symbol, self.content)


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
    counts: Counter[str],
    report: Report,
    extra: Mapping[str, Sequence[Query]] | None = None,
) -> MinedSet:
    """Make a data set.

    Args:
        units: Of at least three packages, tests among them.
        settings: How.
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
    drafts: list[Draft] = []
    for number, name in enumerate(sorted(packages)):
        report("finding queries", number, len(packages))
        drafts += _draft(packages.pop(name), settings.seed, extra or {}, counts)
    if not drafts:
        raise InsufficientTrainingData(0, "the source")
    splits = split_packages({draft.unit.package for draft in drafts}, seed=settings.seed, held_out=settings.held_out)
    # The held-out packages come first: of two near duplicates the one that trains is left out.
    drafts.sort(key=lambda draft: (-SPLITS.index(splits[draft.unit.package]), draft.unit.key))
    drafts = list(_without_duplicates(drafts, counts, report))
    pairs = _capped(_without_ambiguous(drafts, counts), settings, counts)
    train_count = sum(splits[draft.unit.package] == "train" for draft, _ in pairs)
    if train_count < MIN_TRIPLETS:
        raise InsufficientTrainingData(train_count, "what is left of the source after the filters")
    examples: dict[Split, list[Example]] = {split: [] for split in SPLITS}
    for number, split in enumerate(SPLITS):
        report("hard negatives", number, len(SPLITS))
        own = [pair for pair in pairs if splits[pair[0].unit.package] == split]
        examples[split] = _with_negatives(own, settings.negatives)
    return MinedSet(examples, counts)


def _draft(units: list[Unit], seed: int, extra: Mapping[str, Sequence[Query]], counts: Counter[str]) -> list[Draft]:
    """Find the queries of the units of one package."""
    units.sort(key=lambda unit: unit.key)
    counts["units"] += len(units)
    anatomies = {unit.key: dissect(unit) for unit in units}
    drafts = {}
    for unit in units:
        if unit.is_test:
            counts["units of tests"] += 1
        elif (draft := _own_queries(unit, anatomies[unit.key], seed, counts)) is not None:
            drafts[unit.key] = draft
    found: list[tuple[str, Query]] = list(same_symbol_queries(units))
    for language in sorted({unit.language for unit in units}):
        own = [unit for unit in units if unit.language == language]
        definitions = Definitions(own)
        found += caller_queries(own, anatomies, definitions, seed=seed).items()
        found += tested_queries([unit for unit in own if unit.is_test], anatomies, definitions)
    found += [(unit.key, query) for unit in units for query in extra.get(unit.key, ())]
    for key, query in found:
        if key in drafts and all(query.style != other.style for other in drafts[key].queries):
            drafts[key].queries.append(query)
    counts["units without a query"] += sum(not draft.queries for draft in drafts.values())
    return [draft for draft in drafts.values() if draft.queries]


def _own_queries(unit: Unit, anatomy: Anatomy, seed: int, counts: Counter[str]) -> Draft | None:
    """A draft with the queries that stand in the unit itself, cut out of its code; None where little code is left."""
    cut: set[int] = set()
    if anatomy.docstring is not None:
        cut.update(range(anatomy.docstring.first, anatomy.docstring.last + 1))
    comment = comment_query(anatomy, last_row=_last_row(unit.content, cut), counts=counts)
    if comment is not None:
        cut.update(range(comment[1].first, comment[1].last + 1))
    content = _head(without_rows(unit.content, cut))
    if len("".join(content.split())) < _MIN_CODE_CHARS or content.count("\n") + 1 < _MIN_CODE_ROWS:
        counts["units too short"] += 1
        return None
    if len(content) > MAX_PASSAGE_CHARS:
        counts["units of one long line"] += 1
        return None
    found = (
        docstring_query(unit, anatomy, seed=seed, counts=counts),
        comment[0] if comment else None,
        symbol_query(unit, seed=seed),
        change_query(anatomy, counts),
    )
    return Draft(unit, content, [query for query in found if query is not None])


def _head(content: str) -> str:
    """The first rows of a text, as many as fit a passage."""
    if len(content) <= MAX_PASSAGE_CHARS:
        return content
    return content[: MAX_PASSAGE_CHARS + 1].rpartition("\n")[0].rstrip() or content


def _last_row(content: str, cut: set[int]) -> int:
    """The last row of a unit that will be in its passage, once some rows are cut out."""
    size, last = 0, -1
    for number, row in enumerate(content.split("\n")):
        size += 0 if number in cut else len(row) + 1
        if size > MAX_PASSAGE_CHARS:
            break
        last = number
    return last


def _without_duplicates(drafts: Sequence[Draft], counts: Counter[str], report: Report) -> Iterator[Draft]:
    duplicates = Duplicates()
    for number, draft in enumerate(drafts):
        if number % 1000 == 0:
            report("near duplicates", number, len(drafts))
        kind = duplicates.kind_of(draft.content)
        if kind is None:
            yield draft
        else:
            counts[f"units {kind} duplicates"] += 1


def _without_ambiguous(drafts: Sequence[Draft], counts: Counter[str]) -> list[tuple[Draft, Query]]:
    """Leave out queries that several units answer, such as `return a copy`."""
    answers = Counter(_normal(query.text) for draft in drafts for query in draft.queries)
    pairs = []
    for draft in drafts:
        seen: set[str] = set()
        for query in draft.queries:
            # A docstring and a test name of the same unit may be the same words.
            if answers[_normal(query.text)] > 1 or _normal(query.text) in seen:
                counts[f"{query.style} ambiguous"] += 1
            else:
                seen.add(_normal(query.text))
                pairs.append((draft, query))
    return pairs


def _normal(text: str) -> str:
    return " ".join(text.lower().replace(".", " ").split())


def _capped(
    pairs: Sequence[tuple[Draft, Query]], settings: MiningSettings, counts: Counter[str]
) -> list[tuple[Draft, Query]]:
    """Keep at most so many pairs a package, of every style the same share as far as there are any."""
    packages: dict[str, list[tuple[Draft, Query]]] = defaultdict(list)
    for pair in pairs:
        packages[pair[0].unit.package].append(pair)
    kept: set[tuple[str, str]] = set()
    for own in packages.values():
        own.sort(key=lambda pair: rank(settings.seed, "cap", pair[1].style, pair[0].unit.key))
        turns = Counter[str]()
        order = []
        for draft, query in own:
            turns[query.style] += 1
            order.append((turns[query.style], query.style, draft.unit.key))
        kept.update((style, key) for _, style, key in sorted(order)[: settings.package_cap])
        counts["over the package's cap"] += max(0, len(own) - settings.package_cap)
    return [pair for pair in pairs if (pair[1].style, pair[0].unit.key) in kept]


def _with_negatives(pairs: Sequence[tuple[Draft, Query]], count: int) -> list[Example]:
    """Make examples of the pairs of one split, with negatives of the same language."""
    queries: dict[str, list[str]] = defaultdict(list)
    drafts: dict[str, dict[str, Draft]] = defaultdict(dict)
    for draft, query in pairs:
        queries[draft.unit.key].append(query.text)
        drafts[draft.unit.language][draft.unit.key] = draft
    negatives: dict[tuple[str, str], list[Draft]] = {}
    for language, by_key in drafts.items():
        own = list(by_key.values())
        candidates = [Candidate(one.unit.name, language, one.passage, tuple(queries[one.unit.key])) for one in own]
        for number, pool in enumerate(lexical_pools(candidates)):
            key = own[number].unit.key
            for text in queries[key]:
                chosen = choose(text, number, pool, candidates, count=count)
                negatives[key, text] = [own[one] for one in chosen]
    return [_example(draft, query, negatives[draft.unit.key, query.text]) for draft, query in pairs]


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
        scope=unit.scope,
    )
