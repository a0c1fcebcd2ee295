import gymnasium as gym
import numpy as np
import pytest

from rl_rms.envs import NonStationary, make_vec
from rl_rms.envs.curricula import Staged
from rl_rms.envs.parametrized import Parametrized
from rl_rms.envs.schedules import PiecewiseConstant, Step
from rl_rms.envs.switching import TaskSwitch
from tests.naming import naming

# The goal is right and down in the first lake, and down and right in the second.
LAKES = [
    {"id": "FrozenLake-v1", "desc": ["SF", "HG"], "is_slippery": False},
    {"id": "FrozenLake-v1", "desc": ["SH", "FG"], "is_slippery": False},
]
LEFT, DOWN, RIGHT = 0, 1, 2


def test_switch_truncates_and_the_next_episode_has_the_other_task():
    env = NonStationary(TaskSwitch(LAKES), {"task": Step(before=0, after=1, at=3)})
    env.reset(seed=0)
    steps = [env.step(LEFT)[2:] for _ in range(3)]
    assert [one[:2] for one in steps] == [(False, False), (False, False), (False, True)]
    assert steps[-1][2]["rl_rms.regime"] == 1
    env.reset()
    assert env.step(DOWN)[:4] == (2, 0, False, False)  # a hole in the first lake
    assert env.step(RIGHT)[:4] == (3, 1, True, False)


def test_episode_that_terminates_at_a_switch_is_not_truncated():
    env = NonStationary(TaskSwitch(LAKES), {"task": Step(before=0, after=1, at=2)})
    env.reset(seed=0)
    env.step(RIGHT)
    assert env.step(DOWN)[:4] == (3, 1, True, False)


def test_upcoming_values_truncate_an_episode_once():
    env = Parametrized(gym.make("CartPole-v1"), ["gravity"])
    env.reset(seed=0)
    env.parameter_values = (9.8,)
    assert env.step(0)[2:4] == (False, False)
    env.parameter_upcoming = (5.0,)
    assert env.step(0)[2:4] == (False, True)
    assert env.unwrapped.gravity == 5.0
    assert env.step(0)[2:4] == (False, False)


@pytest.mark.parametrize("how", ["sync", "async"])
@pytest.mark.parametrize("mode", ["NextStep", "SameStep", "Disabled"])
def test_switch_in_every_autoreset_mode_truncates(how, mode):
    env = make_vec(
        "rl_rms/TaskSwitch-v0",
        2,
        {"task": Step(before=0, after=1, at=5)},
        tasks=LAKES,
        vectorization_mode=how,
        vector_kwargs={"autoreset_mode": mode},
    )
    env.reset(seed=0)
    actions = [np.array([RIGHT, LEFT]), np.array([LEFT, LEFT]), np.array([RIGHT, LEFT])]
    seen = [env.step(action) for action in actions]
    # The clock reads 2, 4 and 6. The third transition is the last one before the other task.
    assert [one[3].tolist() for one in seen] == [[False, False], [False, False], [True, True]]
    assert not any(one[2].any() for one in seen)
    if mode == "SameStep":
        assert seen[2][4]["final_obs"].tolist() == [1, 0]
        assert seen[2][0].tolist() == [0, 0]
    else:
        assert seen[2][0].tolist() == [1, 0]  # the true final observations
    if mode == "NextStep":
        observations, rewards, *_ = env.step(np.array([DOWN, DOWN]))
        assert (observations.tolist(), rewards.tolist()) == ([0, 0], [0, 0])
    if mode == "Disabled":
        env.reset(options={"reset_mask": np.array([True, True])})
    assert env.step(np.array([DOWN, DOWN]))[2].tolist() == [False, False]
    assert env.step(np.array([RIGHT, RIGHT]))[1].tolist() == [1, 1]
    env.close()


@pytest.mark.parametrize("how", ["sync", "async"])
def test_episode_that_begins_while_the_task_changes_begins_with_the_new_task(how):
    env = make_vec(
        "rl_rms/TaskSwitch-v0",
        2,
        {"task": Step(before=0, after=1, at=5)},
        tasks=LAKES,
        vectorization_mode=how,
        vector_kwargs={"autoreset_mode": "NextStep"},
    )
    env.reset(seed=0)
    env.step(np.array([RIGHT, LEFT]))
    assert env.step(np.array([DOWN, LEFT]))[2].tolist() == [True, False]
    # The first sub-environment is reset. The transition of the second one is the last before the other task.
    assert env.step(np.array([LEFT, LEFT]))[3].tolist() == [False, True]
    assert env.step(np.array([DOWN, LEFT]))[3].tolist() == [False, False]
    assert env.step(np.array([RIGHT, LEFT]))[1].tolist() == [1, 0]
    env.close()


def test_switch_with_independent_clocks_changes_only_due_sub_environments():
    env = make_vec(
        "rl_rms/TaskSwitch-v0",
        2,
        {"task": Step(before=0, after=1, at=3)},
        sharing="independent",
        tasks=LAKES,
        vector_kwargs={"autoreset_mode": "NextStep"},
    )
    env.reset(seed=0)
    env.step(np.array([RIGHT, LEFT]))
    assert env.step(np.array([DOWN, LEFT]))[2].tolist() == [True, False]
    # The first sub-environment only resets in this step. The reset is not a transition.
    assert env.step(np.array([LEFT, LEFT]))[3].tolist() == [False, True]
    assert env.step(np.array([LEFT, LEFT]))[3].tolist() == [True, False]
    env.close()


def test_curriculum_switches_the_task_between_episodes():
    curriculum = Staged([{"task": 0}, {"task": 1}], threshold=1.0, window=1)
    env = NonStationary(TaskSwitch(LAKES), curriculum=curriculum)
    env.reset(seed=0)
    env.step(RIGHT)
    assert env.step(DOWN)[2:4] == (True, False)
    env.reset()
    env.step(DOWN)
    assert env.step(RIGHT)[1] == 1


def test_curriculum_of_tasks_in_same_step_mode_raises():
    curriculum = Staged([{"task": 0}, {"task": 1}], threshold=1.0, window=1)
    with pytest.raises(ValueError, match=naming("SAME_STEP", "'task'")):
        make_vec(
            "rl_rms/TaskSwitch-v0",
            2,
            curriculum=curriculum,
            tasks=LAKES,
            vector_kwargs={"autoreset_mode": "SameStep"},
        )
    env = make_vec("rl_rms/TaskSwitch-v0", 1, curriculum=curriculum, tasks=LAKES)
    env.reset(seed=0)
    env.step(np.array([RIGHT]))
    assert env.step(np.array([DOWN]))[2].tolist() == [True]
    env.step(np.array([LEFT]))  # a reset frame
    env.step(np.array([DOWN]))
    assert env.step(np.array([RIGHT]))[1].tolist() == [1]


def test_clock_set_within_an_episode_switches_at_its_end():
    env = NonStationary(TaskSwitch(LAKES), {"task": Step(before=0, after=1, at=100)})
    env.reset(seed=0)
    env.step(RIGHT)
    with env.frozen(clock=200):
        env.reset()
        env.step(DOWN)
        assert env.step(RIGHT)[:4] == (3, 1, True, False)
    assert env.step(DOWN)[:4] == (3, 1, True, False)  # the way to the goal of the first lake


def test_reset_with_a_seed_seeds_all_tasks():
    def played(seed):
        lakes = [["SFF", "FFF", "FFG"], ["SFF", "FFF", "GFF"]]
        slippery = [{"id": "FrozenLake-v1", "is_slippery": True, "desc": lake} for lake in lakes]
        env = NonStationary(TaskSwitch(slippery), {"task": PiecewiseConstant([(0, 0), (20, 1), (40, 0)])})
        env.reset(seed=seed)
        seen = []
        for _ in range(60):
            observation, _, terminated, truncated, _ = env.step(DOWN)
            seen.append(observation)
            if terminated or truncated:
                env.reset()
        return seen

    assert played(0) == played(0)
    assert played(0) != played(1)


def test_reset_with_a_seed_makes_the_first_task_equal_its_environment():
    env, alone = TaskSwitch(["CartPole-v1", {"id": "CartPole-v1"}]), gym.make("CartPole-v1")
    assert np.array_equal(env.reset(seed=5)[0], alone.reset(seed=5)[0])
    assert np.array_equal(env.step(1)[0], alone.step(1)[0])
    env.close()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: TaskSwitch(["CartPole-v1"]), ("tasks", "['CartPole-v1']")),
        (lambda: TaskSwitch("CartPole-v1"), ("tasks", "'CartPole-v1'")),
        (
            lambda: TaskSwitch(["CartPole-v1", "Acrobot-v1"]),
            ("observation_space", "task 0", "task 1", "Box"),
        ),
        (lambda: NonStationary(TaskSwitch(LAKES), {"task": 2}), ("task", "0 to 1", "2")),
    ],
)
def test_task_switch_with_wrong_tasks_names_them(make, said):
    with pytest.raises(ValueError, match=naming(*said)):
        make()
