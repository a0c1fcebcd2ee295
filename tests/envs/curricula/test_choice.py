import numpy as np
import pytest

from rl_rms.envs.curricula import (
    Learnability,
    LearningProgress,
    PrioritizedLevelReplay,
)
from tests.envs.curricula.episodes import TASKS, force
from tests.naming import naming


def test_choice_counts_a_new_most_likely_task_as_a_change():
    curriculum = LearningProgress(TASKS, fast=0.5, slow=0.1)
    for number, ret in ((0, 0.0), (0, 1.0)):
        force(curriculum, number, ret)
    curriculum.task(0)
    assert curriculum.timescale == np.inf
    for number, ret in ((2, 0.0), (2, 9.0), (2, 9.0)):
        force(curriculum, number, ret)
    curriculum.task(0)
    assert curriculum.timescale == 50  # the change comes after five episodes of 10 env steps


@pytest.mark.parametrize("kind", [LearningProgress, Learnability, PrioritizedLevelReplay])
def test_load_state_dict_of_other_tasks_names_both_numbers(kind):
    with pytest.raises(ValueError, match=naming("4 tasks", "2")):
        kind(TASKS[:2]).load_state_dict(kind(TASKS).state_dict())
