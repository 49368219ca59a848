"""When a run's losses stop it, on losses of real runs and where they are made up on what would be close."""

import math

import pytest

from training.loss_watch import LossWatch

# compact-text with a learning rate of 0.1, batches of 16: it gives every text one vector from step 8 on.
_COLLAPSED = [0.669, 0.410, 0.388, 1.108, 1.132, 4.329, 3.305, 2.772, 3.108, 2.773, *[2.772, 2.773] * 25]
# A small random encoder, batches of 8: above chance, then at it for 40 steps, and then it learns.
_UNTRAINED = [
    *(2.457, 2.459, 2.501, 2.148, 2.298, 2.601, 2.122, 2.555, 2.189, 2.065, 2.108, 2.018, 2.099, 2.085, 2.104),
    *[2.07, 2.09, 2.08, 2.06, 2.075, 2.067, 2.103, 2.085] * 5,
    *(1.968, 2.136, 1.909, 1.908, 1.849, 2.002, 1.798, 1.948, 1.772, 2.536, 1.724, 1.906, 1.649),
]
# The committed code recipe, batches of 128.
_COMMITTED = [1.928, 1.191, 1.327, 2.401, 1.212, 1.408, 1.138, 1.541, 1.913, 1.651, 1.485, 1.223, 1.467, 1.270, 1.116]


def _stopped(watch: LossWatch, losses: list[float]) -> tuple[int, str] | None:
    for step, loss in enumerate(losses, start=1):
        if why := watch.divergence_of(loss):
            return step, why
        watch.see(loss)
        if why := watch.collapse():
            return step, why
    return None


def test_a_loss_that_stays_at_chance_is_a_collapse() -> None:
    """Never above the limit of divergence, since that counted the losses of the collapse for its start."""
    stopped = _stopped(LossWatch(1e9, math.log(16), 16), _COLLAPSED)
    assert stopped is not None
    step, why = stopped
    assert step == 6 + 19
    assert why.startswith("the encoder has collapsed: for 20 steps the loss is that of one which gives every text one")
    assert why.endswith("vector, 2.773, after 0.399")


def test_the_first_steps_are_judged_too() -> None:
    """Far above what 32 queries before it said, and above chance."""
    stopped = _stopped(LossWatch(4.0, math.log(16), 16), _COLLAPSED)
    assert stopped == (6, "the loss 4.329 is above 2.773, the larger of 4 times its start and chance")


@pytest.mark.parametrize(
    ("losses", "chance", "batch", "divergence"),
    [
        (_COMMITTED, math.log(128), 128, 4.0),
        (_UNTRAINED, math.log(8), 8, 1.5),
        # Two queries say nothing: the first are right by luck, and the encoder is as untrained as before.
        ([0.1, 0.2, *_UNTRAINED], math.log(2), 2, 40.0),
        # A triplet loss whose negatives are nearly all beyond the margin.
        ([0.0, 0.001] * 20 + [0.29, 0.0, 0.28, 0.299] * 20, 0.3, 8, 1.01),
    ],
    ids=["committed", "untrained", "pairs", "triplets"],
)
def test_an_honest_run_goes_on(losses: list[float], chance: float, batch: int, divergence: float) -> None:
    """Noise, and an encoder that begins as one that knows nothing, are no reason to stop."""
    assert _stopped(LossWatch(divergence, chance, batch), losses) is None


def test_a_collapse_is_one_that_lasts() -> None:
    """Nineteen losses at chance may still be a batch of hard rows after the other; the twentieth stops the run."""
    chance = math.log(32)
    start, stay = [0.3 * chance] * 4, [0.96 * chance] * 19
    assert _stopped(LossWatch(9.0, chance, 32), [*start, *stay, 0.9 * chance, *stay]) is None
    assert _stopped(LossWatch(9.0, chance, 32), [*start, *stay, 0.96 * chance]) is not None
