import copy
import itertools

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleEnv, CartPoleVectorEnv
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from rl_rms.envs import NonStationaryVector, register_parameter, verification
from rl_rms.envs.classic_control import PendulumVectorEnv
from rl_rms.envs.nonstationary import NonStationary
from rl_rms.envs.parameters import find_parameter
from rl_rms.envs.verification import copy_env, verify_effect
from tests.naming import naming


def verify(env, *targets):
    verify_effect(env, {target: find_parameter(env, target) for target in targets})


def test_verify_parameter_without_effect_raises(probe):
    class Painted(probe):
        colour = 5.0

    with pytest.raises(
        ValueError,
        match=naming("'colour'", "Painted", "nothing", "5.5, 4.5, 10", "5", "200 random steps", "100"),
    ):
        NonStationary(Painted(), {"colour": 3.0})
    NonStationary(Painted(), {"level": 3.0})
    with pytest.raises(ValueError, match=naming("'colour'", "Painted")):
        verify(Painted(), "level", "colour")


@pytest.mark.parametrize(
    ("env_id", "target"),
    [("Reacher-v5", "gravity"), ("InvertedPendulum-v5", "friction"), ("Hopper-v5", "model.geom_friction[0][1]")],
)
def test_verify_mujoco_parameter_without_effect_raises(env_id, target):
    pytest.importorskip("mujoco")
    with pytest.raises(ValueError, match=naming(f"'{target}'", "nothing")):
        NonStationary(gym.make(env_id), {target: 0.5})


def test_verify_lunar_lander_that_keeps_its_first_gravity_raises():
    lander = pytest.importorskip("gymnasium.envs.box2d.lunar_lander")

    class Frozen(lander.LunarLander):
        """A lander whose resets set gravity to -10, so that a change of gravity has no effect."""

        def reset(self, **arguments):
            self.gravity = -10.0
            return super().reset(**arguments)

    register_parameter(Frozen, "gravity")
    with pytest.raises(ValueError, match=naming("'gravity'", "Frozen", "nothing")):
        verify(Frozen(), "gravity")
    verify(lander.LunarLander(), "gravity")


def test_verify_parameters_with_a_joint_effect_passes():
    pytest.importorskip("mujoco")
    env = gym.make("Hopper-v5").unwrapped
    with pytest.raises(ValueError, match=naming("'wind_x'", "HopperEnv", "nothing")):
        verify(env, "wind_x")
    verify(env, "wind_x", "density")


@pytest.mark.parametrize(
    ("env_id", "targets"),
    [
        ("Acrobot-v1", ("torque", "AVAIL_TORQUE[2]")),
        ("Hopper-v5", ("friction", "friction_scale")),
        ("Hopper-v5", ("mass.torso", "mass_scale", "model.body_mass[1]")),
    ],
)
def test_verify_parameters_that_change_each_other_raises(env_id, targets):
    if env_id == "Hopper-v5":
        pytest.importorskip("mujoco")
    for order in (targets, targets[::-1]):
        with pytest.raises(ValueError, match=naming("also changes", "remove")):
            NonStationary(gym.make(env_id), dict.fromkeys(order, 1.0))
    verify(gym.make(env_id).unwrapped, *targets[:-1])


def test_copy_of_mujoco_has_the_present_model():
    pytest.importorskip("mujoco")
    env = gym.make("Walker2d-v5", render_mode="rgb_array").unwrapped
    env.model.opt.density = 100.0
    verify(env, "wind_x")
    clone = copy_env(env)
    clone.model.opt.density = 5.0
    clone.reset(seed=0)
    clone.step(np.zeros(6))
    assert (env.model.opt.density, clone.render_mode, env.data.time) == (100.0, None, 0.0)
    env.close()


def test_copy_of_box2d_has_the_present_values():
    pytest.importorskip("Box2D")
    env = gym.make("LunarLander-v3").unwrapped
    env.enable_wind = True
    verify(env, "wind_power")


@pytest.mark.parametrize("make", [lambda: gym.make("CartPole-v1").unwrapped, lambda: CartPoleVectorEnv(3)])
def test_verify_does_not_change_the_environment(make):
    env = make()
    env.reset(seed=4)
    env.action_space.seed(5)

    def state():
        generators = (env.np_random.bit_generator.state, env.action_space.np_random.bit_generator.state)
        return copy.deepcopy((generators, np.asarray(env.state).tolist(), sorted(vars(env)), env.length))

    before = state()
    verify(env, "gravity", "length", "x_threshold")
    assert state() == before


class Counted(gym.Env):
    """Counts its copies."""

    observation_space, action_space = gym.spaces.Discrete(1), gym.spaces.Discrete(2)
    level, copies = 1.0, 0

    def __deepcopy__(self, memo):
        type(self).copies += 1
        return type(self)()

    def reset(self, *, seed=None, options=None):
        return 0, {}

    def step(self, action):
        return 0, self.level, False, False, {}


def test_verify_runs_once_per_class_and_process():
    class Once(Counted):
        pass

    class Another(Counted):
        pass

    for one in (Once, Once, Another):
        NonStationary(one(), {"level": 3.0})
    assert (Once.copies, Another.copies) == (2, 2)
    register_parameter(Once, "level", set=lambda env, value: setattr(env, "label", value))
    with pytest.raises(ValueError, match=naming("'level'", "Once", "nothing")):
        NonStationary(Once(), {"level": 3.0})


def test_verify_of_a_vector_checks_one_sub_environment(monkeypatch):
    copies = []
    monkeypatch.setattr(verification, "copy_env", lambda env: copies.append(env) or copy.deepcopy(env))

    class Unverified(CartPoleEnv):
        pass

    NonStationaryVector(SyncVectorEnv([Unverified] * 64), {"gravity": 3.0})
    assert len(copies) == 2


def test_verify_does_not_try_values_out_of_bounds():
    tried = []

    class Bounded(Counted):
        level = 2.0

    register_parameter(
        Bounded, "level", set=lambda env, value: tried.append(value), get=lambda env: 2.0, above=0, high=2.05
    )
    with pytest.raises(ValueError, match=naming("1.8, 1, 0.2, 2.05", "2")):
        verify(Bounded(), "level")
    assert set(tried) == {1.8, 1.0, 0.2, 2.05, 2.0}


class Far(Counted):
    """The bonus is a reward in a state that random actions do not reach."""

    bonus, place = 1.0, 0

    def reset(self, *, seed=None, options=None):
        self.place = 0
        return 0, {}

    def step(self, action):
        self.place = 0 if action == 0 else self.place + 1
        return 0, self.bonus if self.place == 1_000 else 0.0, False, False, {}


def test_verify_with_a_provocation_finds_a_rare_effect():
    with pytest.raises(ValueError, match=naming("'bonus'", "Far", "provoke=...")):
        verify(Far(), "bonus")
    register_parameter(Far, "bonus", provoke=lambda env: setattr(env, "place", 999))
    verify(Far(), "bonus")


def test_verify_provocation_alone_is_no_effect():
    class Led(Counted):
        place = 0.0

        def step(self, action):
            return 0, self.place, False, False, {}

    register_parameter(Led, "level", provoke=lambda env: setattr(env, "place", env.level))
    with pytest.raises(ValueError, match=naming("'level'", "nothing", "episodes of up to 10", "another provoke")):
        verify(Led(), "level")


def test_verify_finds_an_effect_in_the_next_episode():
    class Late(Counted):
        def reset(self, *, seed=None, options=None):
            self.now = self.level
            return 0, {}

        def step(self, action):
            return 0, self.now, False, False, {}

    class Later(Late):
        pass

    verify(Late(), "level")
    register_parameter(Later, "level", effect="reset")
    verify(Later(), "level")


def test_verify_environment_that_restores_its_values_sets_them_again():
    class Restoring(Counted):
        def reset(self, *, seed=None, options=None):
            self.level = 1.0
            return 0, {}

        def step(self, action):
            self.steps = getattr(self, "steps", 0) + 1
            return 0, self.level if self.steps > 100 else 0.0, False, False, {}

    verify(Restoring(), "level")


@pytest.mark.parametrize("method", ["step", "reset"])
def test_verify_parameter_with_only_crashing_values_raises(method):
    class Brittle(Counted):
        def reset(self, **kwargs):
            self.crash("reset")
            return super().reset(**kwargs)

        def step(self, action):
            self.crash("step")
            return 0, 0.0, False, False, {}

        def crash(self, where):
            if self.level != 1.0 and where == method:
                raise RuntimeError("broken")

    with pytest.raises(ValueError, match=naming("'level'", "Brittle", "1.1", "1", "RuntimeError: broken")):
        verify(Brittle(), "level")


def test_verify_environment_that_fails_without_a_change_warns():
    class Failing(Counted):
        def step(self, action):
            raise RuntimeError("broken")

    with pytest.warns(UserWarning, match=naming("'level'", "RuntimeError: broken")):
        verify(Failing(), "level")


def test_verify_parameter_with_some_crashing_values_uses_others():
    class Bounded(Counted):
        def step(self, action):
            if self.level > 1.0:
                raise RuntimeError("broken")
            return 0, self.level, False, False, {}

    verify(Bounded(), "level")


def test_verify_parameter_that_cannot_be_read_names_it():
    class Lacking(Counted):
        pass

    register_parameter(Lacking, "missing")
    with pytest.raises(ValueError, match=naming("'missing'", "Lacking", "AttributeError")):
        verify(Lacking(), "missing")


def test_verify_skips_values_that_the_environment_refuses():
    def refuse(env, value):
        if value > 1.0:
            raise TypeError("too much")
        env.level = value

    class Picky(Counted):
        pass

    register_parameter(Picky, "level", set=refuse)
    verify(Picky(), "level")

    class Refusing(Counted):
        pass

    register_parameter(Refusing, "level", set=lambda env, value: refuse(env, 2.0))
    with pytest.raises(ValueError, match=naming("'level'", "Refusing", "too much")):
        verify(Refusing(), "level")


def test_nan_is_equal_to_nan():
    class Blind(Counted):
        def reset(self, *, seed=None, options=None):
            return np.array([np.nan, 1.0]), {}

        def step(self, action):
            return np.array([np.nan, 1.0]), float("nan"), False, False, {}

    with pytest.raises(ValueError, match=naming("'level'", "Blind", "nothing")):
        verify(Blind(), "level")


def test_verify_parameter_that_cannot_be_checked_warns_once():
    class Single(Counted):
        def __deepcopy__(self, memo):
            raise TypeError("there is only one")

    numbers = itertools.count()

    class Random(Counted):
        def step(self, action):
            return 0, float(next(numbers)), False, False, {}

    with pytest.warns(UserWarning, match=naming("'level'", "Single", "copied")):
        NonStationary(Single(), {"level": 3.0})
    with pytest.warns(UserWarning, match=naming("two copies", "seed", "actions")):
        NonStationary(Random(), {"level": 3.0})
    NonStationary(Single(), {"level": 3.0})
    NonStationary(Random(), {"level": 3.0})


def test_verify_of_a_vector_environment_without_autoreset_resets_it():
    # The time limit is shorter than the steps before the change.
    env = PendulumVectorEnv(2, max_episode_steps=2, autoreset_mode="Disabled")
    verify(env, "g")


def test_verify_of_a_vector_environment_with_same_step_autoreset_compares_final_observations():
    # Only the final observation of an episode of one step shows the effect.
    env = PendulumVectorEnv(2, max_episode_steps=1, autoreset_mode="SameStep")
    verify(env, "m")


@pytest.fixture
def counting(monkeypatch):
    """A CartPole with a spec, which records the copied objects in ``copied``. ``weightless`` turns gravity off."""

    class Counting(CartPoleEnv):
        copied = set()  # noqa: RUF012

        def __init__(self):
            super().__init__()
            self.weightless = False

        def __deepcopy__(self, memo):
            self.copied.add(id(self))
            clone = Counting()
            vars(clone).update(vars(self))
            return clone

        def step(self, action):
            gravity, self.gravity = self.gravity, self.gravity * (not self.weightless)
            try:
                return super().step(action)
            finally:
                self.gravity = gravity

    spec = gym.envs.registration.EnvSpec("Counting-v0", entry_point=Counting)
    monkeypatch.setitem(gym.registry, "Counting-v0", spec)
    return gym.make("Counting-v0").unwrapped


def test_verify_copies_another_environment_of_the_same_spec(counting):
    verify(counting, "gravity")
    assert counting.copied
    assert id(counting) not in counting.copied


def test_verify_copies_an_environment_whose_attributes_were_changed(counting):
    counting.weightless = True
    with pytest.raises(ValueError, match=naming("'gravity'", "Counting", "nothing")):
        verify(counting, "gravity")
    assert id(counting) in counting.copied


class Ending(Counted):
    """An environment that ends each episode at step 3, and raises an error in a step after the end."""

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}  # noqa: RUF012 - Gymnasium before 1.4 writes this here
    steps = 0

    def reset(self, *, seed=None, options=None):
        self.steps = 0
        return 0, {}

    def step(self, action):
        self.steps += 1
        if self.steps > 3:
            raise RuntimeError("the episode has ended")
        return 0, self.level, self.steps == 3, False, {}


def test_verify_single_environment_with_the_metadata_of_a_vector_environment_resets_it():
    verify(Ending(), "level")
