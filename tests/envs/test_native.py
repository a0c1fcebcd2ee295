import json

import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from gymnasium.vector import AutoresetMode

from rl_rms.envs import NonStationaryVector, make_vec, register_parameter
from rl_rms.envs.curricula import Staged
from rl_rms.envs.schedules import Redraw
from tests.envs.vectors import NativeProbes, play
from tests.naming import naming


def test_native_snapshot_with_an_unserializable_attribute_is_none():
    env = make_vec("CartPole-v1", 2, vectorization_mode="vector_entry_point")
    env.reset(seed=0)
    env.unwrapped.low = object()
    with pytest.warns(UserWarning, match=naming("CartPoleVectorEnv", "type object")):
        assert env.state_dict()["environment"] is None


def test_part_of_the_observations_of_a_native_environment_names_the_remedy():
    with pytest.raises(ValueError, match=naming("observation.a.noise", "NativeProbes", "sync")):
        NonStationaryVector(NativeProbes([3, 3], AutoresetMode.NEXT_STEP), {"observation.a.noise": 1.0})


def test_reset_of_a_native_environment_that_restores_its_values_sets_them_again():
    class Restoring(NativeProbes):
        def reset(self, **kwargs):
            self.level = 1.0
            return super().reset(**kwargs)

    env = NonStationaryVector(Restoring([9, 9], AutoresetMode.NEXT_STEP), {"level": 5.0})
    env.reset(seed=0)
    assert play(env, 1)[0][1].tolist() == [5.0, 5.0]


def test_step_of_a_native_environment_with_independent_sharing_sets_a_value_for_each():
    changes = {"gravity": Redraw(1, 20, every=1), "masspole": Redraw(0.1, 1, every=3)}
    env = make_vec("CartPole-v1", 4, changes, sharing="independent", seed=4)
    assert isinstance(env.unwrapped, CartPoleVectorEnv)
    env.reset(seed=0)
    for _ in range(5):
        env.step(np.zeros(4, dtype=int))
        bare, held = env.unwrapped, env.parameters
        assert bare.gravity.tolist() == held["gravity"].tolist()
        assert bare.total_mass.tolist() == (held["masspole"] + 1.0).tolist()
        assert bare.polemass_length.tolist() == (held["masspole"] * 0.5).tolist()
        assert len(set(held["gravity"])) == 4


def test_action_of_a_reset_frame_in_a_native_environment_is_not_executed_later():
    shown = {}
    for mode in ("native", "sync"):
        env = make_vec("MountainCar-v0", 2, {"action.delay": 1}, vectorization_mode=mode, max_episode_steps=2)
        env.reset(seed=0)
        # The third step only resets, and the first step of the next episode executes the idle action.
        observations = [env.step(np.full(2, action))[0].tolist() for action in (1, 1, 2, 1)]
        shown[mode] = np.round(observations, 6).tolist()
    assert shown["native"] == shown["sync"]


def test_reset_of_the_native_cartpole_with_a_mask_or_several_seeds_names_sync():
    env = make_vec("CartPole-v1", 2, vectorization_mode="native")
    env.reset(seed=0)
    for given in ({"options": {"reset_mask": np.array([True, False])}}, {"seed": [1, 2]}):
        with pytest.raises(ValueError, match=naming("CartPoleVectorEnv", "seed", "reset_mask", "sync")):
            env.reset(**given)
    assert env.reset(options={"reset_mask": np.ones(2, bool)})[0].shape == (2, 4)


def test_curriculum_in_a_native_environment_sets_its_dynamics():
    curriculum = Staged([{"length": 1.0}, {"length": 0.25}], threshold=1.0, window=3)
    env = make_vec("CartPole-v1", 4, {"gravity": 9.0}, curriculum=curriculum, seed=0)
    assert env.parameters["length"].tolist() == [0.5] * 4
    env.reset(seed=0)
    assert env.unwrapped.length.tolist() == [1.0] * 4
    while curriculum.stage == 0:
        env.step(env.action_space.sample())
    assert 0.25 not in env.unwrapped.length
    while (env.unwrapped.length == 1.0).any():
        env.step(env.action_space.sample())
    assert env.unwrapped.polemass_length.tolist() == [0.025] * 4
    assert env.unwrapped.gravity == 9.0

    fresh = make_vec("CartPole-v1", 4, {"gravity": 9.0}, curriculum=Staged(curriculum.stages, 1.0, 3), seed=0)
    fresh.reset(seed=0)
    fresh.load_state_dict(json.loads(json.dumps(env.state_dict())))
    assert fresh.curriculum.stage == 1
    assert fresh.unwrapped.length.tolist() == [0.25] * 4


def test_constructor_of_an_unregistered_native_environment_raises_value_error():
    env = NativeProbes([2, 2], AutoresetMode.NEXT_STEP)
    NonStationaryVector(env, {"level": 2.0})
    with pytest.raises(ValueError, match=naming("'level'", "sub-environment")):
        NonStationaryVector(env, {"level": 2.0}, sharing="independent")


def test_constructor_of_a_native_environment_with_an_episode_parameter_raises_value_error():
    class Restarted(NativeProbes):
        """A native vector environment of another class, with registered parameters."""

    register_parameter(Restarted, "level", effect="episode")
    with pytest.raises(ValueError, match=naming("'level'", "Restarted", "sub-environment")):
        NonStationaryVector(Restarted([2, 2], AutoresetMode.NEXT_STEP), {"level": 2.0})
