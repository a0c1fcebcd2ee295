import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.classic_control.cartpole import CartPoleVectorEnv

from rl_rms.envs import register_parameter
from rl_rms.envs.nonstationary import NonStationary
from rl_rms.envs.parameters import find_parameter, parameter_names
from rl_rms.envs.schedules import Step

# Every registered parameter of the environments that need no extra, and a value that should be felt.
FELT = [
    ("CartPole-v1", "gravity", 30.0),
    ("CartPole-v1", "masscart", 10.0),
    ("CartPole-v1", "masspole", 1.0),
    ("CartPole-v1", "length", 2.0),
    ("CartPole-v1", "force_mag", 1.0),
    ("CartPole-v1", "tau", 0.05),
    ("Acrobot-v1", "dt", 0.1),
    ("Acrobot-v1", "LINK_LENGTH_1", 2.0),
    ("Acrobot-v1", "LINK_MASS_1", 2.0),
    ("Acrobot-v1", "LINK_MASS_2", 2.0),
    ("Acrobot-v1", "LINK_COM_POS_1", 0.2),
    ("Acrobot-v1", "LINK_COM_POS_2", 0.2),
    ("Acrobot-v1", "LINK_MOI", 2.0),
    ("Acrobot-v1", "MAX_VEL_1", 0.01),
    ("Acrobot-v1", "MAX_VEL_2", 0.01),
    ("Acrobot-v1", "torque_noise_max", 1.0),
    ("MountainCar-v0", "force", 0.01),
    ("MountainCar-v0", "gravity", 0.01),
    ("MountainCar-v0", "max_speed", 0.0001),
    ("MountainCarContinuous-v0", "power", 0.01),
    ("MountainCarContinuous-v0", "max_speed", 0.0001),
    ("Pendulum-v1", "g", 1.0),
    ("Pendulum-v1", "m", 2.0),
    ("Pendulum-v1", "l", 2.0),
    ("Pendulum-v1", "dt", 0.1),
    ("Pendulum-v1", "max_torque", 0.1),
    ("Pendulum-v1", "max_speed", 0.1),
]


def observations(env, steps=6):
    env.action_space.seed(3)
    env.reset(seed=1)
    return np.array([env.step(env.action_space.sample())[0] for _ in range(steps)])


@pytest.mark.parametrize(("env_id", "name", "value"), FELT)
def test_a_change_is_felt(env_id, name, value):
    default = find_parameter(gym.make(env_id).unwrapped, name).value(gym.make(env_id).unwrapped)
    usual = observations(gym.make(env_id))
    same = observations(NonStationary(gym.make(env_id), {name: default}))
    moved = observations(NonStationary(gym.make(env_id), {name: value}))
    assert same.tolist() == usual.tolist()
    assert not np.allclose(moved, usual)


@pytest.mark.parametrize(
    ("env_id", "name", "value"),
    [
        ("CartPole-v1", "x_threshold", 0.0),
        ("CartPole-v1", "theta_threshold_radians", 0.0),
        ("MountainCar-v0", "goal_position", -1.0),
        ("MountainCarContinuous-v0", "goal_position", -1.0),
    ],
)
def test_a_goal_that_is_moved_ends_the_episode(env_id, name, value):
    env = NonStationary(gym.make(env_id), {name: value})
    env.reset(seed=0)
    env.unwrapped.state = np.array([0.01, 1, 0.01, 1]) if "Cart" in env_id[:4] else np.array([0.3, 0.07])
    assert env.step(env.action_space.sample())[2]


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
            "it offers goal_position, goal_velocity, max_speed, power, .*action.gain",
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
