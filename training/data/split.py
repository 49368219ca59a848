"""Which packages train, and which are held out."""

from collections.abc import Collection, Iterable

from training.data.unit import Split, rank
from training.errors import TrainingError

_TEST_SHARE, _DEV_SHARE = 0.15, 0.10
_LEAST_PACKAGES = 3


def split_packages(packages: Iterable[str], *, seed: int, held_out: Collection[str] = ()) -> dict[str, Split]:
    """Give every package to one split, by a hash of its name and the seed.

    A package stays where it is when others come or go: no model is measured on what an older set taught it.
    15 % of the packages are for the test, 10 % for choosing between runs.

    Args:
        packages: At least three.
        seed: Another seed holds out others.
        held_out: Packages that are for the test whatever their hash.

    Returns:
        The split of each package; none of the three is empty.

    Raises:
        TrainingError: There are fewer than three packages, or one to hold out is not among them.
    """
    names = sorted(set(packages), key=lambda name: (rank(seed, "split", name), name))
    if len(names) < _LEAST_PACKAGES:
        raise TrainingError(
            f"{len(names)} packages with examples ({', '.join(names) or 'none'}), at least {_LEAST_PACKAGES} are "
            "needed to hold some out: add --source or --packages"
        )
    if missing := sorted(set(held_out) - set(names)):
        raise TrainingError(f"--hold-out {missing[0]}: no package of that name gave an example")
    splits: dict[str, Split] = {}
    for name in names:
        share = rank(seed, "split", name)
        is_test = share < _TEST_SHARE or name in held_out
        splits[name] = "test" if is_test else "dev" if share < _TEST_SHARE + _DEV_SHARE else "train"
    # Of a handful of packages none may hash low enough, or all.
    wanted: Split
    for wanted in ("test", "dev", "train"):
        if wanted not in splits.values():
            counts = {split: sum(one == split for one in splits.values()) for split in ("train", "dev", "test")}
            largest = max(counts, key=lambda split: counts[split])
            candidates = [name for name in names if splits[name] == largest and name not in held_out]
            splits[candidates[0] if wanted != "train" else candidates[-1]] = wanted
    return splits
