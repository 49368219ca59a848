"""Which packages train, and which are held out."""

from collections.abc import Collection, Mapping

from training.data.unit import Split, rank
from training.errors import TrainingError

_TEST_SHARE, _DEV_SHARE = 0.15, 0.10
_LEAST_PACKAGES = 3
# Of a few packages the hash may hold out none, or only tiny ones.
_LEAST_OF_SHARE = 0.3


def split_packages(sizes: Mapping[str, int], *, seed: int, held_out: Collection[str] = ()) -> dict[str, Split]:
    """Give every package to one split, by a hash of its name and the seed.

    15 % of the packages are for the test, 10 % for choosing between runs. A package stays where it is when others come
    or go, so that no model is measured on what an older set taught it. Only when the hash holds out less than a third
    of these shares, as it may of a handful of packages, the one whose size comes nearest to the share is held out too.

    Args:
        sizes: Examples by package; at least three packages.
        seed: Another seed holds out others.
        held_out: Packages that are for the test whatever their hash.

    Returns:
        The split of each package; none of the three is empty.

    Raises:
        TrainingError: There are fewer than three packages, one to hold out is not among them, or all are.
    """
    if len(sizes) < _LEAST_PACKAGES:
        raise TrainingError(
            f"{len(sizes)} packages with examples ({', '.join(sorted(sizes)) or 'none'}), at least {_LEAST_PACKAGES} "
            "are needed to hold some out: add --source or --packages"
        )
    if missing := sorted(set(held_out) - set(sizes)):
        raise TrainingError(f"--hold-out {missing[0]}: no package of that name gave an example")
    splits: dict[str, Split] = {}
    for name in sorted(sizes):
        share = rank(seed, "split", name)
        is_test = share < _TEST_SHARE or name in held_out
        splits[name] = "test" if is_test else "dev" if share < _TEST_SHARE + _DEV_SHARE else "train"
    _hold_out(splits, sizes, "test", _TEST_SHARE)
    _hold_out(splits, sizes, "dev", _DEV_SHARE)
    if "train" not in splits.values():
        loose = [name for name in splits if name not in held_out]
        if len(loose) < _LEAST_PACKAGES - 1:
            raise TrainingError(f"--hold-out leaves {len(loose)} packages for training and choosing, 2 are needed")
        splits[max(loose, key=lambda name: (sizes[name], name))] = "train"
    return splits


def _hold_out(splits: dict[str, Split], sizes: Mapping[str, int], split: Split, share: float) -> None:
    """Move one package from training to a split that has got too little."""
    wanted = share * sum(sizes.values())
    given = sum(sizes[name] for name, own in splits.items() if own == split)
    candidates = [name for name, own in splits.items() if own == "train"]
    if given < _LEAST_OF_SHARE * wanted and len(candidates) > 1:
        splits[min(candidates, key=lambda name: (abs(sizes[name] + given - wanted), name))] = split
