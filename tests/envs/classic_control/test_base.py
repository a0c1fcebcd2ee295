"""Native vector environments, compared with Gymnasium's SyncVectorEnv, also with drift and a loaded state."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence

from rl_rms.agents import A2C
from rl_rms.envs import NonStationaryVector, make_vec
from rl_rms.envs.curricula import DomainRandomization
from rl_rms.envs.parameters import find_parameter, parameter_names
from rl_rms.envs.schedules import Redraw
from rl_rms.envs.specs import native
from tests.envs.classic_control.pairs import COLUMNS, LIMITS, pair, states, swinging
from tests.envs.lives import continues_in_copies, play, through_json

MODES = ("NextStep", "SameStep", "Disabled")
CHANGES = {
    "Acrobot-v1": {"LINK_MASS_2": Redraw(0.5, 1.5, every=37), "torque_noise_max": 0.3},
    "MountainCar-v0": {"force": Redraw(0.001, 0.004, every=37), "goal_position": Redraw(-0.4, 0.4, every=11)},
    "MountainCarContinuous-v0": {"power": Redraw(0.001, 0.004, every=37), "goal_velocity": -1.0},
    "Pendulum-v1": {"g": Redraw(5.0, 15.0, every=37), "max_speed": Redraw(4.0, 8.0, every=13)},
}


@pytest.mark.parametrize("is_varied", [False, True], ids=["default parameters", "a value for each"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("id", LIMITS)
def test_step_equals_sync_for_the_same_seed_and_actions(id, mode, is_varied):
    ours, theirs = pair(id, mode, columns=COLUMNS[id] if is_varied else None)
    observations, infos = ours.reset(seed=5)
    assert data_equivalence((observations, infos), theirs.reset(seed=5), exact=True)
    random, terminations, truncations = np.random.default_rng(0), 0, 0
    for _ in range(400):
        actions = swinging(id, observations, random)
        mine, other = ours.step(actions), theirs.step(actions)
        assert data_equivalence(mine, other)
        assert ours.state == pytest.approx(states(theirs), rel=1e-9, abs=1e-9)
        observations, _, terminated, truncated, _ = mine
        assert ours.observation_space.contains(observations)
        terminations, truncations = terminations + terminated.sum(), truncations + truncated.sum()
        done = terminated | truncated
        if mode == "Disabled" and done.any():
            observations, _ = ours.reset(options={"reset_mask": done})
            assert np.array_equal(observations, theirs.reset(options={"reset_mask": done})[0])
    assert truncations > 0
    assert (terminations > 0) == (is_varied and id != "Pendulum-v1")


@pytest.mark.parametrize("id", LIMITS)
def test_spaces_and_types_equal_those_of_sync(id):
    ours, theirs = pair(id)
    for name in ("single_observation_space", "single_action_space", "observation_space", "action_space"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.metadata["autoreset_mode"] is theirs.metadata["autoreset_mode"]
    for env in (ours, theirs):
        env.reset(seed=0)
    actions = ours.action_space.sample()
    types = [[(part.dtype, part.shape) for part in env.step(actions)[:4]] for env in (ours, theirs)]
    assert types[0] == types[1]


@pytest.mark.parametrize("id", LIMITS)
def test_reset_seeds_each_sub_environment_as_sync_does(id):
    ours, theirs = pair(id)
    for seed in (3, [7, None, 9], None, [None, 4, None]):
        if seed is not None:
            mine, other = ours.reset(seed=seed)[0], theirs.reset(seed=seed)[0]
            assert np.array_equal(mine, other)
            assert ours.np_random_seed == theirs.np_random_seed
        else:
            assert np.array_equal(ours.reset()[0], theirs.reset()[0])
    unseeded = [pair(id)[0].reset()[0] for _ in range(2)]
    assert not np.array_equal(*unseeded)


@pytest.mark.parametrize("id", LIMITS)
def test_reset_takes_the_options_of_the_single_environment(id):
    options = {"x_init": 0.5, "y_init": 0.1} if id == "Pendulum-v1" else {"low": -0.05, "high": 0.02}
    ours, theirs = pair(id)
    mine, other = (env.reset(seed=1, options=dict(options))[0] for env in (ours, theirs))
    assert np.array_equal(mine, other)
    assert not np.array_equal(mine, ours.reset(seed=1)[0])
    with pytest.raises(ValueError, match="float"):
        ours.reset(options=dict.fromkeys(options, "wide"))


@pytest.mark.parametrize("id", LIMITS)
def test_reset_with_a_mask_and_seeds_does_not_affect_other_sub_environments(id):
    ours, theirs = pair(id, "Disabled")
    for env in (ours, theirs):
        env.reset(seed=0)
    for seed in ([8, 9, 10], None):
        options = [{"reset_mask": np.array([False, True, False])} for _ in range(2)]
        mine = ours.reset(seed=seed, options=options[0])[0]
        assert np.array_equal(mine, theirs.reset(seed=seed, options=options[1])[0])
        actions = ours.action_space.sample()
        assert data_equivalence(ours.step(actions), theirs.step(actions))


@pytest.mark.parametrize("id", LIMITS)
def test_parameters_are_those_of_the_single_environment_and_take_one_value_for_each(id):
    ours, _ = pair(id)
    single = gym.make(id).unwrapped
    assert parameter_names(ours) == parameter_names(single)
    for name in parameter_names(single):
        mine, other = find_parameter(ours, name), find_parameter(single, name)
        assert (mine.low, mine.above, mine.high) == (other.low, other.above, other.high)
        assert mine.value(ours) == other.value(single)
        # NonStationaryVector raises an error if the values have no effect.
        env = NonStationaryVector(pair(id)[0], {name: mine.value(ours)}, sharing="independent")
        assert env.parameters[name].shape == (3,)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sharing", ["shared", "phase", "independent"])
@pytest.mark.parametrize("id", CHANGES)
def test_drift_equals_sync(id, sharing, mode):
    kwargs = {"sharing": sharing, "seed": 3, "vector_kwargs": {"autoreset_mode": mode}, "max_episode_steps": 40}
    ours, theirs = (make_vec(id, 3, CHANGES[id], vectorization_mode=how, **kwargs) for how in ("native", "sync"))
    assert isinstance(ours.unwrapped, type(pair(id)[0]))
    assert np.array_equal(ours.reset(seed=1)[0], theirs.reset(seed=1)[0])
    for mine, other in zip(play(ours, 150, seed=0), play(theirs, 150, seed=0), strict=True):
        assert data_equivalence(mine, other)


@pytest.mark.parametrize("id", CHANGES)
def test_curriculum_sets_a_task_for_each_sub_environment(id):
    target = next(iter(CHANGES[id]))
    curriculum = DomainRandomization({target: [0.7, 0.9] if id == "Acrobot-v1" else [0.001, 0.002]})
    env = make_vec(id, 8, curriculum=curriculum, seed=0)
    env.reset(seed=0)
    assert len(set(env.parameters[target])) == 8
    assert getattr(env.unwrapped, target).tolist() == env.parameters[target].tolist()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("id", CHANGES)
def test_load_of_a_snapshot_continues_exactly(id, mode):
    kwargs = {"sharing": "independent", "vectorization_mode": "native", "max_episode_steps": 40}
    env, loaded = (make_vec(id, 3, CHANGES[id], seed=3, autoreset_mode=mode, **kwargs) for _ in range(2))
    env.reset(seed=1)
    play(env, 122, seed=0)
    assert env.unwrapped.ended.any() == (mode == "NextStep")
    assert continues_in_copies(env, loaded, 150)
    assert through_json(env.state_dict()) == through_json(loaded.state_dict())


@pytest.mark.parametrize("id", LIMITS)
def test_render_shows_the_pictures_of_the_single_environments(id):
    columns = {"LINK_LENGTH_1": [1.0, 0.5], "goal_position": [0.4, 0.1], "max_torque": [2.0, 0.5]}
    columns = {name: column for name, column in columns.items() if name in parameter_names(gym.make(id).unwrapped)}
    ours, theirs = pair(id, columns=columns, num_envs=2, render_mode="rgb_array")
    observations = ours.reset(seed=0)[0]
    theirs.reset(seed=0)
    random = np.random.default_rng(0)
    for _ in range(3):
        assert data_equivalence(ours.render(), theirs.render(), exact=True)
        actions = swinging(id, observations, random)
        observations = ours.step(actions)[0]
        theirs.step(actions)
    for env in (ours, theirs):
        env.close()


def test_render_without_a_render_mode_returns_none():
    env, _ = pair("Pendulum-v1")
    env.reset(seed=0)
    assert env.render() is None


@pytest.mark.parametrize("id", LIMITS)
def test_agent_learns_the_same_in_a_native_environment_as_in_sync(id):
    agents = [
        A2C(make_vec(id, 3, vectorization_mode=how, seed=0), n_steps=4, seed=0).learn(120)
        for how in ("native", "sync")
    ]
    weights = [next(agent.policy.parameters()).detach().numpy() for agent in agents]
    assert weights[0] == pytest.approx(weights[1], abs=1e-6)


def test_registered_specifications_stay_as_they_are():
    for id in LIMITS:
        native(gym.spec(id))
        make_vec(id, 8)
        assert gym.spec(id).vector_entry_point is None
