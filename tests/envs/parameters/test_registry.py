"""Every registered parameter of Gymnasium's environments, and parameters of users."""

import pickle
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest

from rl_rms.envs import register_parameter
from rl_rms.envs.make import make_vec
from rl_rms.envs.nonstationary import NonStationary
from rl_rms.envs.parameters import OutOfBoundsError, find_parameter, parameter_names
from rl_rms.envs.schedules import Linear
from rl_rms.envs.verification import copy_env
from tests.naming import naming


def observations(env, steps=6):
    env.action_space.seed(3)
    env.reset(seed=1)
    return np.array([env.step(env.action_space.sample())[0] for _ in range(steps)])


# Every registered parameter except for MuJoCo's, with a value that must have an effect.
VALUES = {
    "CartPole-v1": {
        "gravity": 30.0,
        "masscart": 10.0,
        "masspole": 1.0,
        "length": 2.0,
        "force_mag": 1.0,
        "tau": 0.05,
        "x_threshold": 0.0,
        "theta_threshold_radians": 0.0,
    },
    "Acrobot-v1": {
        "dt": 0.1,
        "LINK_LENGTH_1": 2.0,
        "LINK_MASS_1": 2.0,
        "LINK_MASS_2": 2.0,
        "LINK_COM_POS_1": 0.2,
        "LINK_COM_POS_2": 0.2,
        "LINK_MOI": 2.0,
        "MAX_VEL_1": 0.01,
        "MAX_VEL_2": 0.01,
        "torque": 3.0,
        "torque_noise_max": 1.0,
    },
    "MountainCar-v0": {
        "force": 0.01,
        "gravity": 0.01,
        "max_speed": 0.0001,
        "goal_position": 0.55,
        "goal_velocity": 0.06,
        "min_position": -1.0,
        "max_position": 0.58,
    },
    "MountainCarContinuous-v0": {
        "power": 0.01,
        "max_speed": 0.0001,
        "goal_position": 0.55,
        "goal_velocity": 0.06,
        "min_position": -1.0,
        "max_position": 0.58,
        "min_action": -0.1,
        "max_action": 0.1,
    },
    "Pendulum-v1": {"g": 1.0, "m": 2.0, "l": 2.0, "dt": 0.1, "max_torque": 0.1, "max_speed": 0.1},
    "LunarLander-v3": {"gravity": -5.0, "wind_power": 3.0, "turbulence_power": 0.5},
    "BipedalWalker-v3": {"gravity": -5.0, "friction": 0.1},
    "CarRacing-v3": {"road_friction": 0.3, "mass_scale": 2.0},
    "FrozenLake-v1": {"success_rate": 0.9},
    "CliffWalking-v1": {"success_rate": 0.5},
    "Taxi-v4": {"rainy_probability": 0.3, "fickle_probability": 1.0},
    "Blackjack-v1": {},
}


ARGUMENTS = {
    "LunarLander-v3": {"enable_wind": True},
    "Taxi-v4": {"is_rainy": True, "fickle_passenger": True},
}


# The parameters that MuJoCo's environments share. Masses of bodies are doubled.
MUJOCO_VALUES = {
    "gravity": -3.0,
    "timestep": 0.0015,
    "density": 100.0,
    "viscosity": 5.0,
    "wind_x": 20.0,
    "wind_y": 20.0,
    "wind_z": 20.0,
    "friction": 0.05,
    "friction_scale": 0.05,
    "mass_scale": 2.0,
    "damping_scale": 3.0,
    "armature_scale": 3.0,
    "stiffness_scale": 3.0,
    "gear_scale": 0.5,
    "control_range_scale": 0.1,
    "frictionloss": 0.7,
    "forward_reward_weight": 3.0,
    "ctrl_cost_weight": 3.0,
    "contact_cost_weight": 3.0,
    "impact_cost_weight": 3.0,
    "healthy_reward": 3.0,
    "reward_near_weight": 3.0,
    "reward_dist_weight": 3.0,
    "reward_control_weight": 3.0,
    "reset_noise_scale": 0.02,
}


WIND = {"wind_x", "wind_y", "wind_z"}  # by default the density is 0, so wind has no effect


MUJOCO_INEFFECTIVE = {
    "Ant-v5": WIND,
    "HalfCheetah-v5": WIND,
    "Hopper-v5": WIND,
    "Humanoid-v5": WIND,
    "HumanoidStandup-v5": WIND,
    "InvertedPendulum-v5": {*WIND, "friction", "friction_scale"},
    "InvertedDoublePendulum-v5": {*WIND, "friction", "friction_scale"},
    "Pusher-v5": {*WIND, "friction_scale", "mass.goal", "mass.object"},
    "Reacher-v5": {*WIND, "friction", "friction_scale", "gravity", "mass.target"},
    "Swimmer-v5": {"friction", "friction_scale", "gravity"},
    "Walker2d-v5": WIND,
}


def bare(env_id):
    pytest.importorskip("mujoco" if env_id in MUJOCO_INEFFECTIVE else "gymnasium")
    if env_id in ("LunarLander-v3", "BipedalWalker-v3", "CarRacing-v3"):
        pytest.importorskip("Box2D")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return gym.make(env_id, **ARGUMENTS.get(env_id, {})).unwrapped


def is_unchanged_by(env, name, value, steps=60):
    """True if setting a parameter within an episode does not change the transitions."""
    parameter = find_parameter(env, name)
    other = copy_env(env)
    both = (env, other)
    env.action_space.seed(3)

    def lead():
        if parameter.provoke is not None:
            for one in both:
                parameter.provoke(one)

    for one in both:
        one.reset(seed=1)
    for step in range(steps):
        if step == 3:
            lead()
            parameter.setter(other)(value)
            if parameter.effect == "reset":
                starts = [np.array(one.reset(seed=5)[0]) for one in both]
                if not np.array_equal(*starts):
                    return False
                lead()
        action = env.action_space.sample()
        one, two = (each.step(action)[:4] for each in both)
        if not all(np.array_equal(a, b) for a, b in zip(one, two, strict=True)):
            assert step >= 3
            return False
        if one[2] or one[3]:
            for each in both:
                each.reset(seed=1)
            lead()
    return True


@pytest.mark.parametrize("env_id", VALUES)
def test_change_has_an_effect_from_the_next_step_or_reset(env_id):
    assert set(parameter_names(bare(env_id))) == set(VALUES[env_id])
    for name, value in VALUES[env_id].items():
        env = bare(env_id)
        default = find_parameter(env, name).value(env)
        # Some outcomes are rare and need 300 steps.
        steps = 300 if "Taxi" in env_id or "Cliff" in env_id else 60
        assert not is_unchanged_by(env, name, value, steps), name
        assert is_unchanged_by(bare(env_id), name, default, 15), f"{name} at its default"


@pytest.mark.parametrize("env_id", MUJOCO_INEFFECTIVE)
def test_change_of_mujoco_has_an_effect(env_id):
    env = bare(env_id)
    effective, ineffective = set(), set()
    for name in parameter_names(env):
        default = find_parameter(env, name).value(env)
        value = 2 * default if name.startswith("mass.") else MUJOCO_VALUES[name]
        assert value != default
        (ineffective if is_unchanged_by(copy_env(env), name, value) else effective).add(name)
        assert is_unchanged_by(copy_env(env), name, default, 5), f"{name} at its default"
    assert ineffective == MUJOCO_INEFFECTIVE[env_id]
    assert {"mass_scale", "timestep", "control_range_scale"} <= effective


@pytest.mark.parametrize("env_id", [*VALUES, "Hopper-v5", "HalfCheetah-v5", "Pusher-v5"])
def test_set_value_is_read_back_without_side_effects(env_id):
    env, other = bare(env_id), bare(env_id)
    module = sys.modules[type(env).__module__]

    def shared():
        owners = [module, *(one for one in type(env).__mro__ if one.__module__.startswith("gymnasium"))]
        return [
            {key: repr(value) for key, value in vars(owner).items() if not key.startswith("__")}
            for owner in owners
        ]

    before = shared()
    defaults = {name: find_parameter(other, name).value(other) for name in parameter_names(other)}
    env.reset(seed=0)
    for name in parameter_names(env):
        parameter = find_parameter(env, name)
        value = VALUES.get(env_id, MUJOCO_VALUES).get(name, 0.5)
        parameter.setter(env)(value)
        assert parameter.value(env) == pytest.approx(value, rel=1e-6), name
        parameter.setter(env)(defaults[name])
        assert parameter.value(env) == pytest.approx(defaults[name], rel=1e-6), name
    assert shared() == before
    assert {name: find_parameter(other, name).value(other) for name in defaults} == defaults


@pytest.mark.parametrize("mode", ["sync", None])
def test_drift_of_one_environment_keeps_another(mode):
    def trace():
        env = gym.make("CartPole-v1")
        env.reset(seed=0)
        return [env.step(step % 2)[0].tolist() for step in range(15)]

    alone = trace()
    drifting = make_vec("CartPole-v1", 2, {"length": Linear(0.1, 2.0, over=10)}, seed=0, vectorization_mode=mode)
    drifting.reset(seed=0)
    for _ in range(10):
        drifting.step(np.array([0, 1]))
    assert trace() == alone


@pytest.mark.parametrize(
    ("env_id", "name", "value", "said"),
    [
        ("CartPole-v1", "length", 0.0, ("'length'", "CartPoleEnv", "> 0", "0.0")),
        ("CartPole-v1", "masscart", -1.0, ("'masscart'", ">= 0", "-1.0")),
        ("CartPole-v1", "x_threshold", 5.0, ("'x_threshold'", ">= 0", "<= 4.8", "5.0")),
        ("Pendulum-v1", "max_torque", 2.5, ("'max_torque'", ">= 0", "<= 2", "2.5")),
        ("Pendulum-v1", "m", float("nan"), ("'m'", "> 0", "nan")),
        ("FrozenLake-v1", "success_rate", 1.2, ("'success_rate'", ">= 0", "<= 1", "1.2")),
    ],
)
def test_value_out_of_bounds_raises(env_id, name, value, said):
    env = bare(env_id)
    before = find_parameter(env, name).value(env)
    with pytest.raises(OutOfBoundsError, match=naming(*said)):
        find_parameter(env, name).setter(env)(value)
    assert find_parameter(env, name).value(env) == before


def test_change_in_one_environment_keeps_another():
    drifting = NonStationary(gym.make("Acrobot-v1"), {"LINK_MASS_1": 5.0})
    drifting.reset(seed=0)
    assert gym.make("Acrobot-v1").unwrapped.LINK_MASS_1 == 1.0
    assert observations(gym.make("Acrobot-v1")).tolist() == observations(gym.make("Acrobot-v1")).tolist()


@pytest.mark.parametrize(
    ("env_id", "name", "said"),
    [
        ("Acrobot-v1", "LINK_LENGTH_2", ("'LINK_LENGTH_2'", "nothing", "rendering")),
        ("CartPole-v1", "total_mass", ("'total_mass'", "nothing", "masscart", "masspole", "length")),
        (
            "CartPole-v1",
            "gravitas",
            ("CartPoleEnv", "'gravitas'", "'gravity'", "force_mag", "length"),
        ),
        ("CartPole-v1", "kinematics_integrator", ("'kinematics_integrator'", "number", "str", "length")),
        ("CartPole-v1", "reward.scal", ("'reward.scal'", "reward.scale")),
        ("CartPole-v1", "action.gain", ("'action.gain'", "Box of floats")),
        (
            "MountainCarContinuous-v0",
            "gravity",
            ("goal_position", "goal_velocity", "max_action", "power", "action.gain"),
        ),
    ],
)
def test_unchangeable_target_raises(env_id, name, said):
    with pytest.raises(ValueError, match=naming(*said)):
        NonStationary(gym.make(env_id), {name: 1.0})


def test_unregistered_numeric_attribute_is_set(probe):
    env = probe()
    assert parameter_names(env) == ["length"]  # level is an attribute of the class
    assert find_parameter(env, "level").value(env) == 1.0
    drifting = NonStationary(env, {"level": 7.0})
    drifting.reset(seed=0)
    assert drifting.step(drifting.action_space.sample())[1] == 7.0
    assert probe.level == 1.0


def test_register_parameter_of_a_user_class_is_used(probe):
    class Tank(probe):
        height, volume, drained = 1.0, 1.0, False
        surface = property(lambda self: self.volume)

        def step(self, action):
            observation, _, *rest = super().step(action)
            return (observation, self.volume, *rest)

    class BigTank(Tank):
        pass

    with pytest.raises(ValueError, match=naming("'surface'", "BigTank", "read-only")):
        find_parameter(BigTank(), "surface")

    def derive(env):
        env.volume = env.height**3

    register_parameter(Tank, "height", derive=derive)
    register_parameter(
        Tank, "fill", set=lambda env, value: setattr(env, "height", 10 * value), get=lambda env: env.height / 10
    )
    register_parameter(Tank, "leak", inert=lambda env: None if env.drained else "there is no drain")
    env = BigTank()
    drifting = NonStationary(env, {"height": 2.0})
    assert (env.height, env.volume) == (2.0, 8.0)
    assert parameter_names(env) == ["fill", "height"]
    assert find_parameter(env, "fill").value(env) == 0.2
    find_parameter(env, "fill").setter(env)(0.5)
    assert env.height == 5.0
    drifting.reset(seed=0)
    assert env.height == 2.0
    with pytest.raises(ValueError, match=naming("'leak'", "BigTank", "nothing", "there is no drain")):
        find_parameter(env, "leak")


def test_deepcopy_of_mujoco_and_box2d_has_the_values():
    pytest.importorskip("mujoco")
    env = NonStationary(
        gym.make("Hopper-v5"),
        {"mass.torso": 9.0, "mass_scale": Linear(1.0, 2.0, over=10), "model.opt.gravity[0]": 1.0},
    )
    env.reset(seed=0)
    for _ in range(5):
        env.step(np.zeros(3))
    twin = pickle.loads(pickle.dumps(env))
    assert twin.unwrapped.model.body_mass.tolist() == env.unwrapped.model.body_mass.tolist()
    assert twin.unwrapped.model.body("torso").mass[0] == pytest.approx(9.0 * 1.5)
    assert twin.unwrapped.model.opt.gravity.tolist() == [1.0, 0.0, -9.81]
    assert twin.unwrapped.model.body_subtreemass.tolist() == env.unwrapped.model.body_subtreemass.tolist()
