import numpy as np
import pytest

from rl_rms.envs.curricula import (
    PrioritizedLevelReplay,
)
from tests.envs.curricula.episodes import TASKS, force
from tests.naming import naming


def test_replay_probabilities_combine_rank_and_age():
    curriculum = PrioritizedLevelReplay(TASKS, beta=1.0, staleness=0.25, replay=0.5)
    assert curriculum.probabilities.tolist() == [0.25] * 4
    for number, score in ((0, 5.0), (1, 1.0), (2, 3.0)):
        curriculum.report_score(0, score)
        force(curriculum, number)
    # The played levels have the ranks 1, 3, 2 and the ages 2, 1, 0. The fourth level is new, with probability 1/2.
    by_score = np.array([1, 1 / 3, 1 / 2]) / (1 + 1 / 3 + 1 / 2)
    replayed = 0.75 * by_score + 0.25 * np.array([2, 1, 0]) / 3
    assert curriculum.probabilities == pytest.approx([*(0.5 * replayed), 0.5])
    curriculum.report_score(0, 9.0)
    force(curriculum, 3)
    by_score = np.array([1 / 2, 1 / 4, 1 / 3, 1]) / (1 + 1 / 2 + 1 / 3 + 1 / 4)
    assert curriculum.probabilities == pytest.approx(0.75 * by_score + 0.25 * np.array([3, 2, 1, 0]) / 6)


def test_replay_without_a_reported_score_uses_the_returns_deviation():
    curriculum = PrioritizedLevelReplay(TASKS)
    # A score is the distance of a return from the level's mean: 14 - 10 = 4, then 13 - 12 = 1. The first return of
    # a level has the highest score so far.
    force(curriculum, 0, ret=10.0)
    force(curriculum, 0, ret=14.0)
    force(curriculum, 1, ret=3.0)
    force(curriculum, 0, ret=13.0)
    scores, means, *_ = np.array(curriculum.state_dict()["levels"]).T
    assert scores.tolist() == [1.0, 4.0, 0.0, 0.0]
    assert means.tolist() == pytest.approx([37 / 3, 3.0, 0.0, 0.0])
    with pytest.raises(ValueError, match=naming("score", ">= 0", "-1")):
        curriculum.report_score(0, -1.0)


def test_replay_discards_the_reported_score_of_an_unfinished_episode():
    curriculum = PrioritizedLevelReplay(TASKS[:1])
    curriculum.task(0)
    curriculum.report_score(0, 9.0)
    curriculum.task(0)
    curriculum.record(1.0, 20, env_index=0)
    assert curriculum.state_dict()["levels"][0][0] == 0.0
