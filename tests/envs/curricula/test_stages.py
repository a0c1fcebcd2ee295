import numpy as np
import pytest

from rl_rms.envs.curricula import ExpandingBox, ReturnGate, Staged, SuccessGated
from tests.naming import naming

STAGES = [{"length": 1.0}, {"length": 0.5}, {"length": 0.25}]


def play(curriculum, ret=0.0, env_index=0, success=None):
    task = curriculum.task(env_index)
    curriculum.record(ret, 10, env_index, success)
    return task["length"]


def test_staged_begins_the_next_stage_after_a_full_window_of_good_episodes():
    curriculum = Staged(STAGES, threshold=10, window=3)
    assert [play(curriculum, ret) for ret in (100, 100)] == [1.0, 1.0]
    assert curriculum.stage == 0
    assert [play(curriculum, ret) for ret in (-200, 5, 20)] == [1.0, 1.0, 1.0]
    assert curriculum.stage == 0
    # The mean of the last three returns rises from (-200 + 5 + 20) / 3 to (5 + 20 + 5) / 3 = 10.
    assert play(curriculum, 5) == 1.0
    assert (curriculum.stage, curriculum.difficulty, curriculum.stage_changes) == (1, 0.5, 1)
    assert [play(curriculum, 10) for _ in range(3)] == [0.5, 0.5, 0.5]
    assert (curriculum.stage, curriculum.difficulty) == (2, 1.0)
    assert [play(curriculum, 10) for _ in range(9)] == [0.25] * 9
    assert curriculum.stage == 2
    assert curriculum.log() == {"stage": 2.0, "difficulty": 1.0}


def test_staged_episode_of_an_earlier_stage_does_not_count():
    curriculum = Staged(STAGES, threshold=10, window=1)
    curriculum.task(0)
    curriculum.task(1)
    curriculum.record(10, 5, 0)
    assert curriculum.stage == 1
    curriculum.record(10, 5, 1)
    assert curriculum.stage == 1
    play(curriculum, 10, env_index=1)
    assert curriculum.stage == 2


def test_staged_single_stage_has_difficulty_one():
    assert Staged(STAGES[:1], threshold=0).difficulty == 1.0


def test_load_state_dict_of_more_stages_names_both_numbers():
    one = Staged(STAGES, threshold=0, window=1)
    play(one)
    play(one)
    with pytest.raises(ValueError, match=naming("stage 2", "1 stages")):
        Staged(STAGES[:1], threshold=0, window=1).load_state_dict(one.state_dict())


def test_success_gated_climbs_and_descends():
    curriculum = SuccessGated(STAGES, threshold=0.8, min_episodes=20, window=40, cooldown=25, hysteresis=0.1)
    assert [play(curriculum, success=True) for _ in range(20)] == [1.0] * 20
    # 20 successes in 20 episodes have the lower bound 0.88. The next level is judged only after the cooldown.
    assert [play(curriculum, success=True) for _ in range(26)] == [0.5] * 26
    assert curriculum.stage == 2
    # The level is too hard, because the upper bound of 0 successes in 20 episodes is 0.12. Nothing changes within
    # the cooldown.
    assert [play(curriculum, success=False) for _ in range(26)] == [0.25] * 26
    assert (curriculum.stage, curriculum.stage_changes) == (1, 3)
    # A rate between 0.7 and 0.8 changes nothing.
    for number in range(400):
        play(curriculum, success=number % 4 != 0)
    assert curriculum.stage == 1
    assert curriculum.log()["success_rate"] == 0.75
    for _ in range(100):
        play(curriculum, success=False)
    assert curriculum.stage == 0
    assert curriculum.stage_changes == 4


def test_success_gated_hysteresis_of_one_never_descends():
    curriculum = SuccessGated(STAGES, success_return=5, hysteresis=1.0, cooldown=0)
    for _ in range(20):
        play(curriculum, ret=5)
    for _ in range(300):
        play(curriculum, ret=0)
    assert curriculum.stage == 1


def test_success_gated_returns_to_the_previous_level_after_luck():
    curriculum = SuccessGated([{"length": 1.0 - 0.1 * one} for one in range(8)])
    random = np.random.default_rng(0)
    stages = []
    for _ in range(5_000):
        length = curriculum.task(0)["length"]
        curriculum.record(0.0, 10, 0, success=bool(random.random() < (0.95 if length == 1.0 else 0.5)))
        stages.append(curriculum.stage)
    assert max(stages) == 1
    assert curriculum.stage_changes > 10


def test_success_gated_without_success_names_the_argument():
    curriculum = SuccessGated(STAGES)
    with pytest.raises(ValueError, match=naming("success_return=...")):
        play(curriculum, ret=5.0)


def test_expanding_box_grows_with_each_gate():
    box = ExpandingBox({"length": [0.5, 0.5]}, {"length": [0.1, 1.0]}, ReturnGate(0, window=10), steps=4)
    seen = [[play(box) for _ in range(10)] for _ in range(6)]
    for step, lengths in enumerate(seen):
        share = min(step, 4) / 4
        low, high = 0.5 - 0.4 * share, 0.5 + 0.5 * share
        assert all(low <= length <= high for length in lengths)
        assert max(lengths) - min(lengths) >= 0.4 * (high - low)
    assert box.difficulty == 1.0
    assert box.log()["box/length/low"] == pytest.approx(0.1)
    assert box.stage_changes == 4
