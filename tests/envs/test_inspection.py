import gymnasium as gym
import numpy as np
import pytest

from rl_rms.envs.inspection import effect, find_targets


class Engine:
    def __init__(self):
        self.power = 1.0


class Car(gym.Env):
    """A car on a line, with numbers in its class and in a dictionary, a list, a tuple, an array and objects."""

    observation_space = gym.spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = gym.spaces.Discrete(2)
    drag = 0.1

    def __init__(self):
        self.config = {"crash_reward": -1.0, "color": 3}
        self.weights = [1, 2.0]
        self.track = np.ones((30, 3))
        self.engine = Engine()
        self.cars = [Engine() for _ in range(20)]
        self.fixed = (1.0, 2.0)
        self.position = 0.0
        self.itself = self

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.position = float(self.np_random.normal())
        return np.array([self.position], np.float32), {}

    def step(self, action):
        self.position += (action - 0.5) * self.engine.power * self.weights[0] * (1 - self.drag)
        reward = self.config["crash_reward"] * abs(self.position)
        return np.array([self.position], np.float32), reward, False, False, {}


@pytest.fixture
def rows():
    env = Car()
    return {one.name: (one.kind, one.value, effect(one)) for one in find_targets(env)}


def test_targets_of_an_environment_have_type_value_and_effect(rows):
    told = {name: row for name, row in rows.items() if row[0] != "transform"}
    inert = {"config.color", "weights[1]", "cars[0].power", "track[0][0]"}
    assert set(told) == inert | {"config.crash_reward", "drag", "engine.power", "position", "weights[0]"}
    assert {name for name, row in told.items() if row[2].startswith("no: ")} == inert
    assert told["config.crash_reward"] == ("float", -1.0, "yes")
    assert told["drag"] == ("float", 0.1, "yes")
    assert told["engine.power"] == ("float", 1.0, "yes")
    assert told["weights[0]"] == ("int", 1, "yes")


def test_first_element_stands_for_a_long_container(rows):
    assert rows["track[0][0]"][0] == "float64, 1 of 90"
    assert rows["cars[0].power"][0] == "float, 1 of 20"


def test_number_that_the_environment_changes_is_state(rows):
    assert rows["position"][2] == "state"


def test_transforms_that_do_not_fit_the_spaces_have_no_effect(rows):
    assert rows["observation.gain"] == ("transform", 1.0, "yes")
    assert rows["action.gain"][2].startswith("no: ")
    assert "Discrete(2)" in rows["action.gain"][2]


def test_inspection_leaves_the_environment_unchanged():
    env = gym.make("CartPole-v1")
    env.reset(seed=0)
    before = {name: value for name, value in vars(env.unwrapped).items() if isinstance(value, (int, float))}
    state, generator = env.unwrapped.state.copy(), env.unwrapped.np_random.bit_generator.state
    for one in find_targets(env):
        effect(one)
    assert {name: vars(env.unwrapped)[name] for name in before} == before
    assert (env.unwrapped.state == state).all()
    assert env.unwrapped.np_random.bit_generator.state == generator


def test_derived_parameter_has_no_effect_and_names_the_reason():
    env = gym.make("CartPole-v1")
    rows = {one.name: effect(one) for one in find_targets(env)}
    assert rows["total_mass"].startswith("no: ")
    assert "masscart" in rows["total_mass"]
    assert rows["gravity"] == "yes"


def test_environment_that_cannot_be_copied_has_unknown_effects():
    env = Car()
    env.handle = (one for one in ())
    for _ in range(2):
        rows = {one.name: effect(one) for one in find_targets(env)}
        assert rows["drag"].startswith("unknown: ")


def test_value_that_raises_in_the_environment_shows_the_error():
    class Strict(Car):
        def step(self, action):
            if self.drag != 0.1:
                raise RuntimeError("drag is 0.1")
            return super().step(action)

    rows = {one.name: one for one in find_targets(Strict())}
    assert effect(rows["drag"]) == "fails: RuntimeError: drag is 0.1"


class Damped(gym.RewardWrapper):
    def __init__(self, env):
        super().__init__(env)
        self.factor = 0.5

    def reward(self, reward):
        return self.factor * reward


def test_attributes_of_wrappers_are_listed_with_their_class():
    rows = {one.name: effect(one) for one in find_targets(Damped(gym.make("CartPole-v1")))}
    assert rows["Damped.factor"] == rows["gravity"] == "yes"
    assert not any(name.startswith(("Damped.env", "PassiveEnvChecker")) for name in rows)


def test_attribute_that_reset_creates_is_listed():
    class Late(Car):
        def reset(self, **kwargs):
            self.scale = 2.0
            return super().reset(**kwargs)

        def step(self, action):
            observation, reward, *rest = super().step(action)
            return observation, self.scale * reward, *rest

    rows = {one.name: (one.value, effect(one)) for one in find_targets(Late())}
    assert rows["scale"] == (2.0, "yes")
    assert rows["position"][1] == "state"


def test_transforms_of_a_dict_observation_name_its_parts():
    env = Car()
    env.observation_space = gym.spaces.Dict(
        {"image": gym.spaces.Box(0, 255, (4, 4), np.uint8), "goal": gym.spaces.Discrete(2)}
    )
    known = {one.name: effect(one) for one in find_targets(env) if one.kind == "transform"}
    assert known["observation.image.noise"] == "yes"
    assert known["observation.goal.noise"].startswith("no: ")
    assert "observation.noise" not in known
