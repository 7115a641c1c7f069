"""Learning rates against published ones, and their shape."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mmdata.errors import UsageError
from recipes.build import build_schedule
from recipes.config import Schedule
from recipes.schedules import annealing, constant, cosine, linear
from tests.reference import cases

pytestmark = pytest.mark.mindspore


def test_annealing_is_that_of_swissarmytransformer(golden: Path) -> None:
    names = {
        "learning_rate": "peak",
        "num_iters": "decay_steps",
        "decay_style": "decay",
        "auto_warmup_steps": "slow_steps",
        "auto_warmup_rate": "slow_rate",
        "last_iter": "last_step",
    }
    for case in cases(golden / "visualglm", "annealing_lr.json"):
        settings = {
            names.get(name, name): value
            for name, value in {**case["defaults"], **case["params"]}.items()
        }
        schedule = annealing(**settings)

        assert [schedule(step) for step in case["steps"]] == pytest.approx(
            case["lr"], rel=1e-9, abs=1e-18
        )


def test_annealing_without_warm_up_has_no_division_by_zero() -> None:
    assert annealing(1.0, 0, 10, slow_steps=2)(0) == 0.05


@pytest.mark.parametrize("schedule", [cosine, linear])
def test_a_schedule_rises_to_its_peak_and_falls_to_its_end(schedule: type) -> None:
    rate = schedule(1.0, total_steps=110, warmup_steps=10, end=0.2, start=0.1)

    assert rate(0) == pytest.approx(0.1)
    assert rate(5) == pytest.approx(0.55)
    assert rate(10) == pytest.approx(1.0)
    assert rate(60) == pytest.approx(0.6)
    assert rate(110) == rate(10**6) == pytest.approx(0.2)
    falling = [rate(step) for step in range(10, 111)]
    assert falling == sorted(falling, reverse=True)


STEPS = 500
BUILT = {
    "constant": (Schedule("constant", peak=2.0), constant(2.0)),
    "cosine": (
        Schedule("cosine", 2.0, start=0.5, end=0.1, warmup_steps=7),
        cosine(2.0, STEPS, 7, 0.1, 0.5),
    ),
    "linear": (
        Schedule("linear", 2.0, start=0.5, end=0.1, warmup_steps=7),
        linear(2.0, STEPS, 7, 0.1, 0.5),
    ),
    "a share as warm-up": (Schedule("linear", 2.0, warmup_ratio=0.3), linear(2.0, STEPS, 150)),
    "steps before a share": (
        Schedule("linear", 2.0, warmup_steps=4, warmup_ratio=0.3),
        linear(2.0, STEPS, 4),
    ),
    "annealing": (
        Schedule("annealing", 2.0, warmup_steps=7, decay_steps=300),
        annealing(2.0, 7, 300),
    ),
    "annealing over the run": (
        Schedule("annealing", 2.0, warmup_steps=7),
        annealing(2.0, 7, STEPS),
    ),
}


@pytest.mark.parametrize(("options", "expected"), BUILT.values(), ids=BUILT)
def test_a_schedule_is_built_as_it_is_configured(
    options: Schedule, expected: Callable[[int], float]
) -> None:
    built = build_schedule(options, STEPS)

    assert [built(step) for step in range(2 * STEPS)] == [
        expected(step) for step in range(2 * STEPS)
    ]


def test_an_unknown_schedule_is_refused() -> None:
    with pytest.raises(
        UsageError,
        match=r"must be one of constant, cosine, linear, annealing.*Did you mean 'cosine'",
    ):
        build_schedule(Schedule("cosin"), STEPS)  # type: ignore[arg-type]
