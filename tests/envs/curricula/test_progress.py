import numpy as np
import pytest

from rl_rms.envs.curricula import (
    Learnability,
    LearningProgress,
)
from tests.envs.curricula.episodes import TASKS, force


def test_learning_progress_is_the_distance_of_a_fast_and_a_slow_average():
    curriculum = LearningProgress(TASKS, fast=0.5, slow=0.1, uniform=0.2)
    assert curriculum.probabilities.tolist() == [0.25] * 4
    force(curriculum, 0, ret=10.0)
    assert curriculum.progress.tolist() == [0, 0, 0, 0]
    # The fast and the slow average are 15 and 11 for task 0, and 6.75 and 7.75 for task 2.
    force(curriculum, 0, ret=20.0)
    force(curriculum, 2, ret=8.0)
    force(curriculum, 2, ret=5.5)
    assert curriculum.progress == pytest.approx([4, 0, 1, 0])
    assert curriculum.probabilities == pytest.approx([0.05 + 0.8 * 0.8, 0.05, 0.05 + 0.8 * 0.2, 0.05])
    assert curriculum.log()["progress/0"] == pytest.approx(4)


def test_learning_progress_uses_successes_if_reported():
    curriculum = LearningProgress(TASKS, fast=0.5, slow=0.1)
    force(curriculum, 1, ret=1e6, success=False)
    force(curriculum, 1, ret=-1e6, success=True)
    assert curriculum.progress == pytest.approx([0, 0.4, 0, 0])
    by_return = LearningProgress(TASKS, fast=0.5, slow=0.1, success_return=3.0)
    force(by_return, 1, ret=2.0)
    force(by_return, 1, ret=3.0)
    assert by_return.progress == pytest.approx([0, 0.4, 0, 0])


def test_learning_progress_draws_the_tasks_that_are_learned():
    curriculum = LearningProgress(TASKS, fast=0.1, slow=0.02)
    random = np.random.default_rng(0)
    skill = np.zeros(4)
    given = []
    for _ in range(3_000):
        number = int(curriculum.task(0)["level"])
        skill[1] += 0.002 * (number == 1)
        skill[2] += 0.002 * (number == 2) * (skill[1] >= 1)
        rate = [1.0, min(skill[1], 1.0), min(skill[2], 1.0), 0.0][number]
        curriculum.record(0.0, 10, 0, success=bool(random.random() < rate))
        given.append(number)
    shares = np.bincount(given, minlength=4) / len(given)
    assert shares[1] + shares[2] > 0.65  # 0.5 at random
    assert shares[1] > 0.3
    assert shares[3] < 0.2


def test_learnability_is_the_variance_of_success():
    curriculum = Learnability(TASKS, rate=0.5, uniform=0.0)
    assert curriculum.probabilities.tolist() == [0.25] * 4
    force(curriculum, 0, success=True)  # 0.75
    force(curriculum, 1, success=False)
    force(curriculum, 1, success=False)  # 0.125
    assert [curriculum.log()[f"success_rate/{number}"] for number in range(4)] == [0.75, 0.125, 0.5, 0.5]
    weights = np.array([0.75 * 0.25, 0.125 * 0.875, 0.25, 0.25])
    assert curriculum.probabilities == pytest.approx(weights / weights.sum())
