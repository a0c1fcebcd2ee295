"""Native vector environments of MuJoCo, compared bit by bit with Gymnasium's SyncVectorEnv."""

import os

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import data_equivalence

from rl_rms.envs import NonStationaryVector, make_vec
from rl_rms.envs.curricula import DomainRandomization
from rl_rms.envs.parameters import find_parameter, parameter_names
from rl_rms.envs.schedules import Redraw, Sinusoid
from rl_rms.envs.specs import native
from tests.envs.lives import continues_in_copies, play
from tests.envs.mujoco.pairs import IDS, MODES, RUNNERS, equal_steps, pair, reset_both
from tests.naming import naming

pytest.importorskip("mujoco")

CHANGES = {
    "Hopper-v5": {
        "gravity": Sinusoid(-9.81, 2.0, period=100),
        "mass.torso": Redraw(2.0, 6.0, every=37),
        "ctrl_cost_weight": Redraw(0.001, 0.1, every=11),
        "model.opt.timestep": Redraw(0.002, 0.003, every=41),
        "reset_noise_scale": 0.01,
    },
    "Ant-v5": {"friction": Redraw(0.5, 2.0, every=37), "contact_cost_weight": Redraw(0.0, 0.1, every=11)},
    "InvertedDoublePendulum-v5": {"damping_scale": Redraw(0.5, 2.0, every=37), "gravity": -5.0},
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("id", IDS)
def test_step_equals_sync_for_the_same_seed_and_actions(id, mode):
    ours, theirs = pair(id, mode)
    reset_both(ours, theirs, seed=5)
    terminations, truncations = equal_steps(ours, theirs, 500)
    for mine, other in zip(ours.envs, theirs.envs, strict=True):
        for name in ("qpos", "qvel", "qacc_warmstart", "cfrc_ext", "time"):
            assert np.array_equal(getattr(mine.data, name), getattr(other.unwrapped.data, name))
    assert (terminations > 0) == (id not in ("HalfCheetah-v5", "Swimmer-v5"))
    assert (truncations > 0) == (id in RUNNERS)


def test_step_equals_sync_in_a_long_episode():
    ours, theirs = pair("HalfCheetah-v5", limit=1_000, num_envs=2)
    reset_both(ours, theirs, seed=0)
    assert equal_steps(ours, theirs, 3_000) == (0, 4)


@pytest.mark.parametrize("id", IDS)
def test_step_with_actions_in_double_precision_equals_sync(id):
    ours, theirs = pair(id)
    reset_both(ours, theirs, seed=1)
    equal_steps(ours, theirs, 20, np.float64)


@pytest.mark.parametrize("id", IDS)
def test_spaces_equal_those_of_sync(id):
    ours, theirs = pair(id)
    for name in ("single_observation_space", "single_action_space", "observation_space", "action_space"):
        assert getattr(ours, name) == getattr(theirs, name)
    assert ours.metadata["autoreset_mode"] is theirs.metadata["autoreset_mode"]


@pytest.mark.parametrize("id", IDS)
def test_reset_seeds_each_sub_environment_as_sync_does(id):
    ours, theirs = pair(id, "Disabled")
    for seed in (3, [7, None, 9], None, [None, 4, None]):
        reset_both(ours, theirs, seed=seed)
    equal_steps(ours, theirs, 3)
    for seed in ([8, 9, 10], None):
        results = [
            env.reset(seed=seed, options={"reset_mask": np.array([False, True, False])}) for env in (ours, theirs)
        ]
        assert data_equivalence(*results, exact=True)
        equal_steps(ours, theirs, 3)


def test_num_threads_is_the_number_of_usable_cores_and_of_sub_environments_at_most():
    def threads(num_envs, num_threads=None):
        return pair("Swimmer-v5", num_envs=num_envs, num_threads=num_threads)[0].num_threads

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    assert threads(1) == 1
    assert threads(usable + 1) == usable
    assert threads(3, 2) == 2
    assert threads(2, 5) == 2
    for wrong in (0, 1.5):
        with pytest.raises(ValueError, match=naming("num_threads", ">= 1", str(wrong))):
            threads(2, wrong)


@pytest.mark.parametrize("num_threads", [1, 3, 5])
def test_number_of_threads_changes_no_transition(num_threads):
    ours, theirs = pair("Walker2d-v5", num_envs=5, num_threads=num_threads)
    reset_both(ours, theirs, seed=0)
    equal_steps(ours, theirs, 60)
    ours.close()


@pytest.mark.parametrize("row", [0, 1])
def test_error_in_a_thread_is_raised_by_step(row):
    ours, _ = pair("Hopper-v5", num_envs=2)
    ours.reset(seed=0)
    ours.envs[row].data = None
    with pytest.raises(TypeError, match="mj_step"):
        ours.step(np.zeros((2, 3), np.float32))


@pytest.mark.parametrize("id", IDS)
def test_parameters_equal_the_single_environments(id):
    ours, theirs = pair(id)
    single = theirs.envs[0].unwrapped
    assert parameter_names(ours) == parameter_names(single)
    for name in [*parameter_names(single), "model.opt.gravity[0]"]:
        mine, other = find_parameter(ours, name), find_parameter(single, name)
        assert (mine.low, mine.above, mine.high, mine.effect) == (other.low, other.above, other.high, other.effect)
        assert mine.value(ours) == other.value(single)
        assert mine.batched


def test_parameter_takes_one_value_for_each_sub_environment():
    ours, _ = pair("Hopper-v5")
    assign = find_parameter(ours, "gravity").setter(ours)
    assign(np.array([-1.0, -2.0, -3.0]))
    assert [env.model.opt.gravity[2] for env in ours.envs] == [-1.0, -2.0, -3.0]
    ours.envs[0].model.opt.gravity[2] = -7.0
    assign(np.array([-1.0, -4.0, -3.0]))
    assert [env.model.opt.gravity[2] for env in ours.envs] == [-7.0, -4.0, -3.0], "only changed values are set"
    assign(-9.0)
    assert [env.model.opt.gravity[2] for env in ours.envs] == [-9.0] * 3
    with pytest.raises(ValueError, match=naming("'mass_scale'", "> 0", "-1")):
        find_parameter(ours, "mass_scale").setter(ours)(np.array([1.0, 1.0, -1.0]))


def test_change_without_effect_raises_value_error():
    for target, kind in (("wind_x", "HopperEnv"), ("forward", "HopperVectorEnv")):
        with pytest.raises(ValueError, match=naming(kind, target)):
            NonStationaryVector(pair("Hopper-v5")[0], {target: 1.0})


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("sharing", ["shared", "phase", "independent"])
@pytest.mark.parametrize("id", CHANGES)
def test_drift_equals_sync(id, sharing, mode):
    kwargs = {"sharing": sharing, "seed": 3, "vector_kwargs": {"autoreset_mode": mode}, "max_episode_steps": 40}
    ours, theirs = (make_vec(id, 3, CHANGES[id], vectorization_mode=how, **kwargs) for how in ("native", "sync"))
    assert isinstance(ours.unwrapped, type(pair(id)[0]))
    assert np.array_equal(ours.reset(seed=1)[0], theirs.reset(seed=1)[0])
    for mine, other in zip(play(ours, 100, seed=0), play(theirs, 100, seed=0), strict=True):
        assert data_equivalence(mine, other, exact=True)


def test_curriculum_sets_a_task_for_each_sub_environment():
    env = make_vec("Hopper-v5", 8, curriculum=DomainRandomization({"friction": [0.5, 2.0]}), seed=0)
    env.reset(seed=0)
    frictions = [one.model.geom_friction[0, 0] for one in env.unwrapped.envs]
    assert len(set(frictions)) == 8
    assert frictions == env.parameters["friction"].tolist()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("id", CHANGES)
def test_load_of_a_snapshot_continues_exactly(id, mode):
    kwargs = {"sharing": "independent", "vectorization_mode": "native", "max_episode_steps": 40}
    env, loaded = (make_vec(id, 3, CHANGES[id], seed=3, autoreset_mode=mode, **kwargs) for _ in range(2))
    env.reset(seed=1)
    play(env, 122, seed=0)
    assert continues_in_copies(env, loaded, 100)


@pytest.mark.parametrize("id", IDS)
def test_make_vec_uses_the_native_environment_by_default(id):
    kind = type(pair(id)[0])
    assert type(make_vec(id, 8).unwrapped) is kind
    assert type(make_vec(id, 2, vectorization_mode="native", num_threads=1).unwrapped) is kind
    assert type(make_vec(id, 2).unwrapped) is not kind
    native(gym.spec(id))
    assert gym.spec(id).vector_entry_point is None


@pytest.mark.parametrize("how", [None, "sync"])
def test_make_vec_ignores_the_number_of_threads_of_an_environment_that_is_not_native(how):
    assert make_vec("Hopper-v5", 2, vectorization_mode=how, num_threads=1).num_envs == 2
    with pytest.raises(TypeError, match=naming("num_threads")):
        make_vec("Pendulum-v1", 2, vectorization_mode=how, num_threads=1)


def test_render_shows_each_sub_environment(monkeypatch):
    # Without a display, MuJoCo's renderer ends the process.
    renderer = "gymnasium.envs.mujoco.mujoco_env.MujocoEnv.render"
    monkeypatch.setattr(renderer, lambda env: np.frombuffer(env.data.qpos.tobytes(), np.uint8).reshape(-1, 1, 3))
    ours, theirs = pair("Hopper-v5", num_envs=2, render_mode="rgb_array", width=32, height=32)
    assert pair("Hopper-v5")[0].render() is None
    reset_both(ours, theirs, seed=0)
    equal_steps(ours, theirs, 3)
    assert data_equivalence(ours.render(), theirs.render(), exact=True)
