import numpy as np
import pytest

from rl_rms.envs.curricula import CURRICULA, Curriculum, Gate, Teacher
from rl_rms.envs.schedules import SCHEDULES, Constant, Function, Schedule, Step
from tests.naming import naming


def test_read_names_a_class_of_the_user_refuses_it():
    class Mine(Constant):
        name = "mine"

    assert Mine(3.0).to_config() == {"mine": {"value": 3.0}}
    with pytest.raises(ValueError, match=naming("constant", "'mine'")):
        Schedule.from_config(Mine(3.0).to_config())


def test_class_of_the_user_without_a_name_has_the_name_of_the_class():
    class Half(Schedule):
        bounds = (0.5, 0.5)

        def values(self, t, key):
            return np.full(len(t), 0.5)

        def _timescale(self):
            return 1.0

    class Fixed(Curriculum):
        targets, difficulty = ("length",), 0.0

        def _draw(self):
            return {"length": 0.5}, None

        def _learn(self, outcome, drawn):
            pass

        def _forget(self):
            pass

        def _kept(self):
            return {}

        def _keep(self, kept):
            pass

    assert Half().to_config() == {"Half": {}}
    assert Fixed().state_dict()["name"] == "Fixed"


def test_class_of_the_user_has_the_name_of_a_library_class_leaves_that_registered():
    class Mine(Teacher):
        name = "teacher"

    class Other(Step):
        name = "constant"

    assert CURRICULA["teacher"] is Teacher
    assert SCHEDULES["constant"] is Constant


def test_function_has_no_yaml_form():
    assert Function.name not in SCHEDULES
    with pytest.raises(ValueError, match=naming("trace")):
        Schedule.from_config({"function": {"function": "math.sin"}})


def test_list_stands_for_the_only_argument_of_sums():
    assert Schedule.from_config({"sum": [1, 2]}) == Constant(1) + Constant(2)
    with pytest.raises(ValueError, match=naming("clip", "by name", "[1, 2]")):
        Schedule.from_config({"clip": [1, 2]})


@pytest.mark.parametrize("kind", [Schedule, Curriculum, Gate])
def test_read_something_else_names_the_value_and_the_choices(kind):
    with pytest.raises(ValueError, match=naming("['x']")):
        kind.from_config(["x"])
