import json

import pytest

from rl_rms.envs.curricula import Curriculum, Staged
from rl_rms.envs.episodes import Episodes

STAGES = [{"length": 1.0}, {"length": 0.5}, {"length": 0.25}]


def play(curriculum, ret, env_index=0):
    task = curriculum.task(env_index)
    curriculum.record(ret, 10, env_index)
    return task["length"]


def test_a_stage_needs_a_full_window_of_good_episodes():
    curriculum = Staged(STAGES, threshold=10, window=3)
    assert [play(curriculum, ret) for ret in (100, 100)] == [1.0, 1.0]
    assert curriculum.stage == 0  # good enough, but too few
    assert [play(curriculum, ret) for ret in (-200, 5, 20)] == [1.0, 1.0, 1.0]
    assert curriculum.stage == 0  # the last three: (-200 + 5 + 20) / 3
    assert play(curriculum, 5) == 1.0  # (5 + 20 + 5) / 3 is 10
    assert (curriculum.stage, curriculum.difficulty, curriculum.stage_changes) == (1, 0.5, 1)
    assert [play(curriculum, 10) for _ in range(3)] == [0.5, 0.5, 0.5]
    assert (curriculum.stage, curriculum.difficulty) == (2, 1.0)
    assert [play(curriculum, 10) for _ in range(9)] == [0.25] * 9
    assert curriculum.stage == 2


def test_episodes_that_began_in_an_earlier_stage_do_not_count():
    curriculum = Staged(STAGES, threshold=10, window=1)
    curriculum.task(0)
    curriculum.task(1)
    curriculum.record(10, 5, 0)
    assert curriculum.stage == 1
    curriculum.record(10, 5, 1)
    assert curriculum.stage == 1
    play(curriculum, 10, env_index=1)
    assert curriculum.stage == 2


def test_a_single_stage_is_the_most_difficult():
    assert Staged(STAGES[:1], threshold=0).difficulty == 1.0


def test_state_goes_through_json():
    first, second = (Staged(STAGES, threshold=10, window=2) for _ in range(2))
    for _ in range(3):
        play(first, 10)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    assert (second.stage, first.stage) == (1, 1)
    assert play(second, 10) == 0.5
    assert second.stage == 2  # one return was in the saved window
    with pytest.raises(ValueError, match="the saved stage 2 is none of the 1 stages"):
        Staged(STAGES[:1], threshold=10).load_state_dict(second.state_dict())


def test_yaml_form():
    curriculum = Staged(STAGES, threshold=400, window=5)
    config = json.loads(json.dumps(curriculum.to_config()))
    assert config == {"staged": {"stages": STAGES, "threshold": 400.0, "window": 5}}
    assert Curriculum.from_config(config).to_config() == config
    assert Curriculum.from_config(curriculum) is curriculum
    assert Curriculum.from_config({"staged": {"stages": STAGES, "threshold": 1}}).window == 20


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Staged([], 1), r"stages must be a list of tasks, such as .*, got \[\]"),
        (lambda: Staged([{}], 1), "stages must be a list of tasks"),
        (lambda: Staged([{"a": 1}, {"b": 1}], 1), "stage 0 sets a and stage 1 sets b"),
        (lambda: Staged([{"a": "x"}], 1), r"stages\[0\].a must be a finite number, got 'x'"),
        (lambda: Staged(STAGES, None), "threshold must be a finite number, got None"),
        (lambda: Staged(STAGES, 1, window=0), "window must be a whole number >= 1 episodes, got 0"),
        (lambda: Curriculum.from_config({"stagd": {}}), "a curriculum must be one of staged"),
        (lambda: Curriculum.from_config({"staged": {"stages": STAGES}}), "staged needs threshold"),
        (
            lambda: Curriculum.from_config({"staged": {"stages": STAGES, "treshold": 1}}),
            "staged has no argument 'treshold'; it takes stages, threshold, window",
        ),
    ],
)
def test_what_is_wrong_is_named(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_episodes_sum_what_is_true_and_report_in_order():
    told = []

    class Listener(Staged):
        def record(self, episode_return, episode_length, env_index):
            told.append((episode_return, episode_length, env_index))

    episodes = Episodes(Listener(STAGES, 1), num_envs=3, first=5)
    assert [episodes.begin(row) for row in range(3)] == [(1.0,)] * 3
    episodes.add([1.0, 2.0, 3.0], [True, True, True], [False, True, False])
    episodes.begin(1)
    episodes.add([10.0, 99.0, 30.0], [True, False, True], [True, False, True])
    episodes.begin(0)
    episodes.add([0.5, 0.25, 7.0], [True, True, True], [True, True, False])
    assert told == [(2.0, 1, 6), (11.0, 2, 5), (33.0, 2, 7), (0.5, 1, 5), (0.25, 1, 6)]
