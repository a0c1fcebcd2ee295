import copy

import pytest

from rl_rms.cli.overrides import with_words

TREE = {"agent": {"gamma": 0.9}, "env": {"changes": {"reward.scale": {"step": {"before": 1, "at": 2}}}}}


@pytest.mark.parametrize(
    ("words", "part", "expected"),
    [
        (
            ["--agent.optimizer_kwargs", '{"momentum": 0.5}', "--agent.optimizer_kwargs.eps", "1e-3"],
            "agent",
            {"gamma": 0.9, "optimizer_kwargs": {"momentum": 0.5, "eps": 1e-3}},
        ),
        (
            ["--agent.optimizer_kwargs.eps=1e-3", "--agent.optimizer_kwargs={}"],
            "agent",
            {"gamma": 0.9, "optimizer_kwargs": {}},
        ),
        (["--agent={vf_coef: 1}", "--agent.gamma=1"], "agent", {"vf_coef": 1, "gamma": 1}),
        (["--agent.gamma=1", "--agent.gamma=0.5"], "agent", {"gamma": 0.5}),
        (
            [f"--agent.ent_coef.{key}" for key in ("step.at=1", "linear.start=2", "linear.end=3")],
            "agent",
            {"gamma": 0.9, "ent_coef": {"linear": {"start": 2, "end": 3}}},
        ),
        (
            ["--env.changes.reward.scale.linear.start=2", "--env.changes.reward.scale.linear.end=3"],
            "env",
            {"changes": {"reward.scale": {"linear": {"start": 2, "end": 3}}}},
        ),
        (
            ["--env.curriculum.staged.window=2", "--env.curriculum.linear_ramp.over=3", "--env.changes={}"],
            "env",
            {"curriculum": {"linear_ramp": {"over": 3}}, "changes": {}},
        ),
        (["--agent.gamma.step.at=1"], "agent", {"gamma": {"step": {"at": 1}}}),
        (
            ["--env={}", "--env.kwargs={a: {b: 1}}", "--env.kwargs.a.c", "2"],
            "env",
            {"kwargs": {"a": {"b": 1, "c": 2}}},
        ),
        (
            ["--env={}", "--env.kwargs.observation.type", "X"],
            "env",
            {"kwargs": {"observation": {"type": "X"}}},
        ),
        (
            ["--env.changes.observation.image.noise=2", "--env.changes.observation.a.0.gain.step.at=3"],
            "env",
            {
                "changes": {
                    **TREE["env"]["changes"],
                    "observation.image.noise": 2,
                    "observation.a.0.gain": {"step": {"at": 3}},
                }
            },
        ),
        (
            ["--env.changes.reward.scale.step.at", "3", "--env.changes.gravity=5"],
            "env",
            {"changes": {"reward.scale": {"step": {"before": 1, "at": 3}}, "gravity": 5}},
        ),
        (
            ["--env.changes={length: 1}", "--env.changes.action.gain=2"],
            "env",
            {"changes": {"length": 1, "action.gain": 2}},
        ),
        (
            ["--env.changes={}", "--env.changes.Damped.factor=2", "--env.changes.model.opt.timestep.step.at=3"],
            "env",
            {"changes": {"Damped.factor": 2, "model.opt.timestep": {"step": {"at": 3}}}},
        ),
        (
            ["--env.changes={}", "--env.changes.spring.constant=2", "--env.changes.arm.delay.step.at=3"],
            "env",
            {"changes": {"spring.constant": 2, "arm.delay": {"step": {"at": 3}}}},
        ),
        (
            ["--env.changes={}", "--env.changes.legs.steps={step: {at: 3}}", "--env.changes.gravity.step={at: 3}"],
            "env",
            {"changes": {"legs.steps": {"step": {"at": 3}}, "gravity": {"step": {"at": 3}}}},
        ),
        (
            ["--env.changes={}", "--env.changes.gravity.sum=[1, 2]", "--env.changes.action.delay.sinusiod.mean=2"],
            "env",
            {"changes": {"gravity": {"sum": [1, 2]}, "action.delay": {"sinusiod": {"mean": 2}}}},
        ),
        (
            ["--env.changes={}", "--env.changes.gravity.sinusiod.mean=2"],
            "env",
            {"changes": {"gravity": {"sinusiod": {"mean": 2}}}},
        ),
    ],
)
def test_with_words_applies_from_left_to_right_and_nests(words, part, expected):
    before = copy.deepcopy(TREE)
    assert with_words(TREE, words, {})[part] == expected
    assert before == TREE


def test_with_words_keeps_the_text_of_a_string_key():
    assert with_words({}, ["--runs_dir=1e3", "--seed=1e3"], {"runs_dir": str, "seed": int}) == {
        "runs_dir": "1e3",
        "seed": 1000.0,
    }
