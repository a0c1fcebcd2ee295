import pickle
import re
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv
from hypothesis import given
from hypothesis import strategies as st

from rl_rms.envs import register_parameter
from rl_rms.envs.make import make_vec
from rl_rms.envs.nonstationary import NonStationary
from rl_rms.envs.parameters import OutOfBoundsError, find_parameter, parameter_names
from rl_rms.envs.parameters.paths import AttributePath
from rl_rms.envs.schedules import Linear, Step
from rl_rms.envs.verification import copy_env
from tests.examples import fewer


def observations(env, steps=6):
    env.action_space.seed(3)
    env.reset(seed=1)
    return np.array([env.step(env.action_space.sample())[0] for _ in range(steps)])


# Every registered parameter of every environment but MuJoCo's, and a value that should be felt.
FELT = {
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
if "Taxi-v4" not in gym.registry:  # it came with Gymnasium 1.3
    del FELT["Taxi-v4"]
ARGUMENTS = {
    "LunarLander-v3": {"enable_wind": True},
    "Taxi-v4": {"is_rainy": True, "fickle_passenger": True},
}
# What MuJoCo's environments share; masses of bodies are doubled.
MUJOCO_FELT = {
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
WIND = {"wind_x", "wind_y", "wind_z"}  # there is no air
MUJOCO_UNFELT = {
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
    pytest.importorskip("mujoco" if env_id in MUJOCO_UNFELT else "gymnasium")
    if env_id in ("LunarLander-v3", "BipedalWalker-v3", "CarRacing-v3"):
        pytest.importorskip("Box2D")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return gym.make(env_id, **ARGUMENTS.get(env_id, {})).unwrapped


def lives(env, name, value, steps=60):
    """Whether a life in which a parameter is set in mid-episode goes on as one in which it is not."""
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


@pytest.mark.parametrize("env_id", FELT)
def test_a_change_is_felt_from_the_next_step_or_reset_on(env_id):
    assert set(parameter_names(bare(env_id))) == set(FELT[env_id])
    for name, value in FELT[env_id].items():
        env = bare(env_id)
        default = find_parameter(env, name).value(env)
        # Some outcomes are rare: 300 steps.
        steps = 300 if "Taxi" in env_id or "Cliff" in env_id else 60
        assert not lives(env, name, value, steps), name
        assert lives(bare(env_id), name, default, 15), f"{name} at its default"


@pytest.mark.parametrize("env_id", MUJOCO_UNFELT)
def test_a_change_of_mujoco_is_felt(env_id):
    env = bare(env_id)
    felt, unfelt = set(), set()
    for name in parameter_names(env):
        default = find_parameter(env, name).value(env)
        value = 2 * default if name.startswith("mass.") else MUJOCO_FELT[name]
        assert value != default
        (unfelt if lives(copy_env(env), name, value) else felt).add(name)
        assert lives(copy_env(env), name, default, 5), f"{name} at its default"
    assert unfelt == MUJOCO_UNFELT[env_id]
    assert {"mass_scale", "timestep", "control_range_scale"} <= felt


@pytest.mark.parametrize("env_id", [*FELT, "Hopper-v5", "HalfCheetah-v5", "Pusher-v5"])
def test_what_is_set_is_read_back_and_nothing_else_in_the_process_changes(env_id):
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
        value = FELT.get(env_id, MUJOCO_FELT).get(name, 0.5)
        parameter.setter(env)(value)
        assert parameter.value(env) == pytest.approx(value, rel=1e-6), name
        parameter.setter(env)(defaults[name])
        assert parameter.value(env) == pytest.approx(defaults[name], rel=1e-6), name
    assert shared() == before
    assert {name: find_parameter(other, name).value(other) for name in defaults} == defaults


@pytest.mark.parametrize("mode", ["sync", None])
def test_a_drifting_environment_leaves_another_as_it_was(mode):
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
        ("CartPole-v1", "length", 0.0, "'length' of CartPoleEnv must be > 0, got 0.0; keep its schedule within"),
        ("CartPole-v1", "masscart", -1.0, "must be >= 0, got -1.0"),
        ("CartPole-v1", "x_threshold", 5.0, r"must be >= 0 and <= 4\.8, got 5\.0"),
        ("Pendulum-v1", "max_torque", 2.5, "must be >= 0 and <= 2, got 2.5"),
        ("Pendulum-v1", "m", float("nan"), "must be > 0, got nan"),
        ("FrozenLake-v1", "success_rate", 1.2, "must be >= 0 and <= 1, got 1.2"),
    ],
)
def test_values_out_of_bounds_are_refused(env_id, name, value, said):
    env = bare(env_id)
    before = find_parameter(env, name).value(env)
    with pytest.raises(OutOfBoundsError, match=said):
        find_parameter(env, name).setter(env)(value)
    assert find_parameter(env, name).value(env) == before


def test_a_drift_stops_at_the_step_at_which_it_leaves_the_bounds():
    env = NonStationary(gym.make("CartPole-v1"), {"length": Linear(0.5, -0.5, over=10)})
    env.reset(seed=0)
    for _ in range(4):
        env.step(0)
    with pytest.raises(OutOfBoundsError, match="'length' of CartPoleEnv must be > 0, got 0.0"):
        env.step(0)


def test_each_of_an_array_must_lie_within_the_bounds():
    native = CartPoleVectorEnv(num_envs=3)
    setter = find_parameter(native, "length").setter(native)
    setter(np.array([0.1, 0.2, 0.3]))
    assert native.polemass_length.tolist() == [0.1 * 0.1, 0.1 * 0.2, 0.1 * 0.3]
    with pytest.raises(OutOfBoundsError, match="must be > 0"):
        setter(np.array([0.1, 0.0, 0.3]))


def test_bounds_and_effects_that_make_no_sense_are_refused(probe):
    with pytest.raises(ValueError, match="leave room for a value, got low=2, above=-inf, high=1"):
        register_parameter(probe, "level", low=2, high=1)
    with pytest.raises(ValueError, match="effect of 'level' must be one of step, reset, episode, got 'now'"):
        register_parameter(probe, "level", effect="now")


def test_cartpole_derives_its_masses():
    env = NonStationary(gym.make("CartPole-v1"), {"masscart": 3, "masspole": Step(0.1, 0.5, at=2), "length": 2})
    bare = env.unwrapped
    env.reset(seed=0)
    for masspole in (0.1, 0.5, 0.5):
        env.step(0)
        assert (bare.total_mass, bare.polemass_length) == (masspole + 3.0, masspole * 2.0)
    env.reset()
    assert (bare.total_mass, bare.polemass_length) == (3.5, 1.0)


def test_native_cartpole_takes_one_value_for_each_and_moves_as_the_single_one_does():
    native = CartPoleVectorEnv(num_envs=3)
    values = {"gravity": [9.8, 1.0, 20.0], "masspole": [0.1, 0.2, 0.3], "length": [0.5, 1.0, 0.2]}
    for name, column in values.items():
        parameter = find_parameter(native, name)
        assert parameter.batched
        parameter.setter(native)(np.array(column))
    native.reset(seed=0)
    batch, *_ = native.step(np.array([0, 1, 1]))
    start = CartPoleVectorEnv(num_envs=3).reset(seed=0)[0]
    for i, action in enumerate([0, 1, 1]):
        env = gym.make("CartPole-v1").unwrapped
        for name, column in values.items():
            find_parameter(env, name).setter(env)(column[i])
        env.reset(seed=0)
        env.state = start[i].astype(np.float64)
        assert env.step(action)[0] == pytest.approx(batch[i], abs=1e-6)


def test_changes_stay_in_their_own_environment():
    drifting = NonStationary(gym.make("Acrobot-v1"), {"LINK_MASS_1": 5.0})
    drifting.reset(seed=0)
    assert gym.make("Acrobot-v1").unwrapped.LINK_MASS_1 == 1.0
    assert observations(gym.make("Acrobot-v1")).tolist() == observations(gym.make("Acrobot-v1")).tolist()


@pytest.mark.parametrize(
    ("env_id", "name", "said"),
    [
        ("Acrobot-v1", "LINK_LENGTH_2", "would change nothing: it only affects rendering"),
        ("CartPole-v1", "total_mass", "would change nothing: it is derived from masscart, masspole and length"),
        (
            "CartPole-v1",
            "gravitas",
            "CartPoleEnv has no 'gravitas' to change; it offers force_mag, gravity, length",
        ),
        ("CartPole-v1", "kinematics_integrator", "it offers"),
        ("CartPole-v1", "reward.scal", "it offers .*reward.scale"),
        ("CartPole-v1", "action.gain", "'action.gain' needs actions that are a Box of floats"),
        (
            "MountainCarContinuous-v0",
            "gravity",
            "it offers goal_position, goal_velocity, max_action, .*power, .*action.gain",
        ),
    ],
)
def test_what_cannot_be_changed_is_refused(env_id, name, said):
    with pytest.raises(ValueError, match=said):
        NonStationary(gym.make(env_id), {name: 1.0})


def test_other_numeric_attributes_are_set_as_they_are(probe):
    env = probe()
    assert parameter_names(env) == ["length"]  # level is the class's own
    assert find_parameter(env, "level").value(env) == 1.0
    drifting = NonStationary(env, {"level": 7.0})
    drifting.reset(seed=0)
    assert drifting.step(drifting.action_space.sample())[1] == 7.0
    assert probe.level == 1.0


def test_users_register_parameters_of_their_own(probe):
    class Tank(probe):
        height, volume, drained = 1.0, 1.0, False
        surface = property(lambda self: self.volume)

        def step(self, action):
            observation, _, *rest = super().step(action)
            return (observation, self.volume, *rest)

    class BigTank(Tank):
        pass

    with pytest.raises(ValueError, match="'surface' of BigTank is read-only"):
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
    with pytest.raises(ValueError, match="changing 'leak' of BigTank would change nothing: there is no drain"):
        find_parameter(env, "leak")


def test_lunar_lander_falls_faster_from_the_moment_gravity_grows():
    pytest.importorskip("Box2D")

    def fall(gravity):
        env = NonStationary(gym.make("LunarLander-v3"), {"gravity": gravity})
        env.reset(seed=0)
        return np.array([env.step(0)[0][3] for _ in range(20)])

    usual, moved = fall(-10.0), fall(Step(before=-10.0, after=-2.0, at=10))
    assert usual.tolist() == observations_of_a_fall(usual).tolist()
    assert moved[:10].tolist() == usual[:10].tolist()
    assert (np.diff(moved[10:]) > 2 * np.diff(usual[10:])).all()  # both fall, at a fifth of the acceleration
    with pytest.raises(ValueError, match="make the environment with enable_wind=True"):
        NonStationary(gym.make("LunarLander-v3"), {"wind_power": 3.0})
    NonStationary(gym.make("LunarLander-v3", enable_wind=True), {"wind_power": 3.0, "turbulence_power": 1.0})


def observations_of_a_fall(like):
    env = gym.make("LunarLander-v3")
    env.reset(seed=0)
    return np.array([env.step(0)[0][3] for _ in range(len(like))])


def test_mujoco_contacts_have_the_friction_that_was_asked_for():
    pytest.importorskip("mujoco")
    env = NonStationary(gym.make("Hopper-v5"), {"friction": Step(before=0.3, after=1.7, at=30), "gravity": -5.0})
    data = env.unwrapped.data
    env.reset(seed=0)
    seen = set()
    for _ in range(60):
        friction = env.parameters["friction"]
        _, _, terminated, _, _ = env.step(np.zeros(3, np.float32))
        if data.ncon:
            assert data.contact.friction[:, 0] == pytest.approx(friction)
            seen.add(friction)
        if terminated:
            env.reset()
    assert seen == {0.3, 1.7}
    assert env.unwrapped.model.opt.gravity.tolist() == [0.0, 0.0, -5.0]
    assert find_parameter(env.unwrapped, "friction").value(env.unwrapped) == pytest.approx(1.7)
    assert find_parameter(env.unwrapped, "gravity").value(env.unwrapped) == -5.0


def test_masses_scale_as_mujoco_scales_them():
    mujoco = pytest.importorskip("mujoco")
    env, reference = gym.make("Ant-v5").unwrapped, gym.make("Ant-v5").unwrapped
    total = reference.model.body_mass.sum()
    mujoco.mj_setTotalmass(reference.model, 2 * total)
    mujoco.mj_setConst(reference.model, mujoco.MjData(reference.model))
    for one in (env, reference):
        one.reset(seed=0)
    for _ in range(3):
        env.step(np.ones(8))
    data = {
        name: np.array(getattr(env.data, name)) for name in ("qpos", "qvel", "xpos", "qacc_warmstart", "cfrc_ext")
    }
    find_parameter(env, "mass_scale").setter(env)(2.0)
    for name, before in data.items():
        assert getattr(env.data, name).tolist() == before.tolist(), f"{name} must stay as it was"
    for name in ("body_mass", "body_inertia", "body_subtreemass", "dof_invweight0", "body_invweight0"):
        assert getattr(env.model, name) == pytest.approx(getattr(reference.model, name), rel=1e-12)
    assert env.model.body_subtreemass[0] == pytest.approx(2 * total)
    env.reset(seed=0)
    for _ in range(20):
        assert env.step(np.ones(8))[0] == pytest.approx(reference.step(np.ones(8))[0], abs=1e-6)


def test_the_mass_of_a_body_and_the_scale_of_all_go_together():
    pytest.importorskip("mujoco")
    env = gym.make("Hopper-v5").unwrapped
    model, torso = env.model, env.model.body("torso").id
    mass, inertia, leg = model.body_mass[torso], model.body_inertia[torso].copy(), model.body("leg").mass[0]
    find_parameter(env, "mass.torso").setter(env)(3 * mass)
    find_parameter(env, "mass_scale").setter(env)(2.0)
    assert model.body_mass[torso] == pytest.approx(6 * mass)
    assert model.body_inertia[torso] == pytest.approx(6 * inertia)
    assert model.body("leg").mass[0] == pytest.approx(2 * leg)
    assert model.body_subtreemass[0] == pytest.approx(model.body_mass.sum())
    assert find_parameter(env, "mass.torso").value(env) == pytest.approx(3 * mass)
    find_parameter(env, "mass_scale").setter(env)(1.0)
    find_parameter(env, "mass.torso").setter(env)(mass)
    assert model.body_mass[torso] == mass
    with pytest.raises(ValueError, match="HopperEnv has no 'mass.head' to change; it offers .*mass.torso"):
        NonStationary(gym.make("Hopper-v5"), {"mass.head": 1.0})


def test_mujoco_derives_its_constants_only_where_masses_move(monkeypatch):
    mujoco = pytest.importorskip("mujoco")
    env = gym.make("Hopper-v5").unwrapped
    calls = []
    derive = mujoco.mj_setConst
    monkeypatch.setattr(mujoco, "mj_setConst", lambda *args: (calls.append(args), derive(*args)))
    for name, value in {"gravity": -5.0, "friction": 0.5, "damping_scale": 2.0, "mass_scale": 1.0}.items():
        find_parameter(env, name).setter(env)(value)
    assert not calls
    find_parameter(env, "mass_scale").setter(env)(1.5)
    find_parameter(env, "armature_scale").setter(env)(1.5)
    assert len(calls) == 2
    assert env.data not in [data for _, data in calls]


def test_friction_of_joints_is_that_of_joints_with_a_motor():
    pytest.importorskip("mujoco")
    env = gym.make("Hopper-v5").unwrapped
    find_parameter(env, "frictionloss").setter(env)(0.5)
    assert env.model.dof_frictionloss.tolist() == [0, 0, 0, 0.5, 0.5, 0.5]


def test_friction_scale_keeps_what_differs():
    pytest.importorskip("mujoco")
    env = gym.make("Hopper-v5").unwrapped
    made = env.model.geom_friction.copy()
    for scale in (2.0, 0.5):
        find_parameter(env, "friction_scale").setter(env)(scale)
        assert env.model.geom_friction[:, 0].tolist() == (made[:, 0] * scale).tolist()
        assert env.model.geom_friction[:, 1:].tolist() == made[:, 1:].tolist()


def test_copies_of_mujoco_and_box2d_have_the_values_again():
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


def test_walker_slips_from_the_next_reset_on():
    pytest.importorskip("Box2D")
    env = NonStationary(
        gym.make("BipedalWalker-v3"), {"friction": Step(2.5, 0.5, at=2), "gravity": Step(-10.0, -5.0, at=2)}
    )
    env.reset(seed=0)
    for _ in range(2):
        env.step(np.zeros(4, np.float32))

    def ground():
        return {fixture.friction for body in env.unwrapped.terrain for fixture in body.fixtures}

    assert (ground(), tuple(env.unwrapped.world.gravity)) == ({2.5}, (0.0, -5.0))
    env.reset()
    assert (ground(), tuple(env.unwrapped.world.gravity)) == ({0.5}, (0.0, -5.0))


def test_car_and_road_are_made_anew_with_the_values_that_hold():
    pytest.importorskip("Box2D")
    env = NonStationary(gym.make("CarRacing-v3"), {"road_friction": 0.25, "mass_scale": 2.0})
    env.reset(seed=0)
    world = env.unwrapped
    assert {tile.road_friction for tile in world.road} == {0.25}
    bodies = [world.car.hull, *world.car.wheels]
    for body in bodies:
        assert body.mass == pytest.approx(2 * sum(fixture.massData.mass for fixture in body.fixtures), rel=1e-5)


@pytest.mark.parametrize("rate", [0.8, 1.0, 0.0])
def test_frozen_lake_has_the_table_that_it_would_be_made_with(rate):
    for slippery in (True, False):
        env = gym.make("FrozenLake-v1", is_slippery=slippery).unwrapped
        assert find_parameter(env, "success_rate").value(env) == (1 / 3 if slippery else 1.0)
        find_parameter(env, "success_rate").setter(env)(rate)
        assert gym.make("FrozenLake-v1", success_rate=rate).unwrapped.P == env.P


def test_cliff_walking_slips_as_the_slippery_one():
    env = gym.make("CliffWalking-v1").unwrapped
    find_parameter(env, "success_rate").setter(env)(1 / 3)
    end = 47
    for state, rows in gym.make("CliffWalking-v1", is_slippery=True).unwrapped.P.items():
        for action, row in rows.items():
            assert state == end or [one[1:] for one in env.P[state][action]] == [one[1:] for one in row]
            assert state == end or [one[0] for one in env.P[state][action]] == pytest.approx([1 / 3] * 3)


@pytest.mark.skipif("Taxi-v4" not in gym.registry, reason="Gymnasium's Taxi-v4 came with 1.3")
def test_taxi_has_the_table_that_it_would_be_made_with():
    env = gym.make("Taxi-v4", is_rainy=True).unwrapped
    find_parameter(env, "rainy_probability").setter(env)(0.6)
    assert gym.make("Taxi-v4", is_rainy=True, rainy_probability=0.6).unwrapped.P == env.P
    for name, said in {
        "rainy_probability": "is_rainy=True",
        "fickle_probability": "fickle_passenger=True",
    }.items():
        with pytest.raises(ValueError, match=f"would change nothing: .*make the environment with {said}"):
            find_parameter(gym.make("Taxi-v4").unwrapped, name)


LAKE = gym.make("FrozenLake-v1").unwrapped


@given(rates=st.lists(st.floats(0, 1), min_size=1, max_size=3))
@fewer(2)
def test_probabilities_always_sum_to_one(rates):
    for rate in rates:
        find_parameter(LAKE, "success_rate").setter(LAKE)(rate)
    assert find_parameter(LAKE, "success_rate").value(LAKE) == rates[-1]
    for state, rows in LAKE.P.items():
        for row in rows.values():
            assert sum(one[0] for one in row) == pytest.approx(1.0, abs=1e-12)
            if LAKE.desc.ravel()[state] in b"GH":
                assert row == [(1.0, state, 0, True)]


class Inner:
    def __init__(self):
        self.numbers, self.frozen, self.name = [1.0, [2.0, 3.0]], (4.0, 5.0), "inner"
        self._vector = np.array([6.0, 7.0])

    @property
    def vector(self):
        return self._vector.copy()  # as Box2D does

    @vector.setter
    def vector(self, vector):
        self._vector = vector

    shape = property(lambda self: self._vector.size)


@pytest.mark.parametrize(
    "path", ["inner.numbers[0]", "inner.numbers[1][-1]", "inner.vector[1]", "inner._vector[0]", "array[2]"]
)
def test_any_number_is_reached_by_its_path(probe, path):
    env = probe()
    env.inner, env.array = Inner(), np.arange(3.0)
    parameter = find_parameter(env, path)
    assert parameter.value(env) == {"[0]": 1.0, "][-1]": 3.0, "r[1]": 7.0, "array[2]": 2.0}.get(
        path.removeprefix("inner.numbers").removeprefix("[1").removeprefix("inner.vecto"), 6.0
    )
    parameter.setter(env)(9.5)
    assert parameter.value(env) == 9.5
    assert find_parameter(env, path) == parameter


@pytest.mark.parametrize(
    ("path", "said"),
    [
        (
            "inner.nombres[0]",
            "Probe has no 'inner.nombres\\[0\\]' to change: 'inner' is a Inner without 'nombres'",
        ),
        ("inner.numbers[7]", "'inner.numbers' is a list without '\\[7\\]'"),
        ("later.mass", "'later' is a NoneType without 'mass'; some environments make it at the first reset"),
        (
            "inner.numbers[1]",
            "must be a number to be changed, got a list; .* such as 'inner.numbers\\[1\\]\\[0\\]'",
        ),
        ("inner.name", "must be a number to be changed, got a str"),
        ("inner.frozen[0]", "'inner.frozen\\[0\\]' of Probe is read-only"),
        ("inner.shape", "'inner.shape' of Probe is read-only"),
    ],
)
def test_paths_that_lead_to_no_number_are_refused(probe, path, said):
    env = probe()
    env.inner, env.later = Inner(), None
    with pytest.raises(ValueError, match=said):
        find_parameter(env, path)


@pytest.mark.parametrize("path", ["inner", "outer.mass", "a..b", "level[", "1level", ""])
def test_what_begins_with_no_attribute_is_no_path(probe, path):
    env = probe()
    env.inner = Inner()
    assert find_parameter(env, path) is None


def test_a_path_goes_through_what_resets_make_anew():
    pytest.importorskip("Box2D")
    env = NonStationary(gym.make("LunarLander-v3"), {"world.gravity[0]": 1.5})
    for seed in (0, 1):
        env.reset(seed=seed)
        assert tuple(env.unwrapped.world.gravity) == (1.5, -10.0)


class Typed(gym.Env):
    """Rewards depend on attributes of several types, one of which `range` takes."""

    observation_space, action_space = gym.spaces.Discrete(1), gym.spaces.Discrete(2)

    def __init__(self):
        self.n, self.flag, self.small = 3, False, np.int8(3)
        self.single, self.scalar = np.float32(0.5), np.array(3, dtype=np.int16)
        self.counts = np.array([1, 2], dtype=np.int32)
        self.table = [1, True]

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        counted = sum(1 for _ in range(self.n)) + int(self.scalar) + int(self.small) + int(self.counts.sum())
        return 0, float(counted + self.single + self.flag + sum(self.table)), False, False, {}


@pytest.mark.parametrize(
    ("path", "value", "right"),
    [
        ("n", 4.0, 4),
        ("flag", 1.0, True),
        ("small", 5.0, np.int8(5)),
        ("single", 0.25, np.float32(0.25)),
        ("scalar", 7.0, np.array(7, dtype=np.int16)),
        ("counts[1]", 6.0, np.int32(6)),
        ("table[0]", 2.0, 2),
        ("table[1]", 0.0, False),
    ],
)
def test_attribute_keeps_its_own_type(path, value, right):
    env = NonStationary(Typed(), {path: value})
    env.reset(seed=0)
    env.step(0)
    found = AttributePath(path).get(env.unwrapped)
    assert (type(found), found) == (type(right), right)
    assert np.asarray(found).dtype == np.asarray(right).dtype


@pytest.mark.parametrize(
    ("path", "value", "needed"),
    [
        ("n", 2.5, "type int and must be a whole number"),
        ("n", np.inf, "type int and must be a whole number"),
        ("flag", 0.5, "type bool and must be 0 or 1"),
        ("small", 128.0, "type int8 and must be a whole number that int8 holds"),
        ("scalar", 1.5, "type ndarray and must be a whole number that int16 holds"),
        ("counts[0]", 1.5, "type int32 and must be a whole number that int32 holds"),
        ("table[1]", 2.0, "type bool and must be 0 or 1"),
    ],
)
def test_value_that_the_attributes_type_cannot_hold_is_refused(path, value, needed):
    env = Typed()
    named = re.escape(f"'{path}' of Typed is of {needed}") + f".*, got {value}; use a schedule"
    with pytest.raises(ValueError, match=named):
        find_parameter(env, path).setter(env)(value)


def test_continuous_schedule_of_an_integer_stops_at_the_first_fraction():
    env = NonStationary(Typed(), {"n": Linear(start=3.0, end=5.0, over=4)})
    env.reset(seed=0)
    with pytest.raises(ValueError, match="'n' of Typed .* got 3.5.*a float, such as 3.0"):
        env.step(0)


def test_registered_attribute_keeps_its_own_type():
    class Registered(Typed):
        pass

    register_parameter(Registered, "n", low=0)
    env = NonStationary(Registered(), {"n": 4.0})
    env.reset(seed=0)
    assert type(env.unwrapped.n) is int
    with pytest.raises(ValueError, match="'n' of Registered .* got 0.5"):
        NonStationary(Registered(), {"n": 0.5}).reset(seed=0)


def test_registered_attribute_takes_an_array_of_its_own_type():
    env = Typed()
    assign = find_parameter(env, "n").setter(env)
    assign(np.array([1.0, 2.0]))
    assert env.n.dtype == np.int64
    with pytest.raises(ValueError, match="'n' of Typed .* got 2.5"):
        assign(np.array([1.0, 2.5]))
