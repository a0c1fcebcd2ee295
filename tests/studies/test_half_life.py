import numpy as np
import pytest

from rl_rms.agents import A2C
from rl_rms.envs import make_vec
from rl_rms.studies import forgetting, load
from rl_rms.studies.half_life import TASKS, best_half_lives, expected_return, exponent

STUDY = load("half_life")


def test_best_half_life_is_far_below_the_time_between_jumps(quick):
    best = best_half_lives(quick)
    assert best[500] < 50
    assert best[100] < best[500]
    assert best[10] > best[500]
    assert 0.2 < exponent(quick) < 0.9
    assert STUDY.verdict(quick).word != "holds"


def test_forgetting_at_jumps_makes_episodes_longer_if_observations_jump(quick):
    assert forgetting.gain(quick, "observation offsets", "observations", "jumps").middle > 0


@pytest.mark.parametrize(("name", "best"), [("bandit", 0.0), ("two states", 1.0)])
def test_expected_return_of_a_policy_is_near_the_best(name, best):
    task = TASKS[name]
    agent = A2C(make_vec(task.id, 2, task.changes, seed=3, **task.kwargs), seed=3, device="cpu")
    value = expected_return(agent, task, 3)
    assert best - 1 < value < best
    # A uniform policy gets the mean reward of all arms, or spends half of the time in each state.
    for param in agent.policy.actor_network[-1].parameters():
        param.data.zero_()
    if name == "bandit":
        means = [task.changes[f"mean_{arm}"].values(np.array([0]), _key(f"mean_{arm}"))[0] for arm in range(5)]
        assert expected_return(agent, task, 3) == pytest.approx(np.mean(means) - max(means), abs=1e-6)
    else:
        assert expected_return(agent, task, 3) == pytest.approx(0.5)


def _key(target):
    from rl_rms.envs.schedules import Key, stream_of

    return Key(3, stream_of(target), 0)
