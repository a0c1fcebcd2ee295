from pathlib import Path

import pytest

from rl_rms.cli.errors import UserError
from rl_rms.cli.yaml_files import read_file, read_value, read_yaml
from tests.naming import naming


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [", ["mine.yaml", "YAML"]),
        ("- 1", ["mine.yaml", "keys"]),
        ("3", ["mine.yaml", "keys"]),
    ],
)
def test_read_yaml_without_keys_raises(text, said):
    with pytest.raises(UserError, match=naming(*said)):
        read_yaml(text, "mine.yaml")


BOMB = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n" + "".join(
    f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 12)
)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (BOMB, "100,000 values"),
        ("env: &env {kwargs: *env}", "100 levels"),
        ("a: " + "[" * 900 + "]" * 900, "100 levels"),
    ],
    ids=["aliases", "a circle", "nesting"],
)
def test_read_yaml_with_too_many_values_raises(text, named):
    with pytest.raises(UserError, match=naming("mine.yaml", named)):
        read_yaml(text, "mine.yaml")


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.mkdir [owned]", "!!python/name:os.system", "!mine {}"])
def test_read_yaml_python_tag_does_not_build_an_object(tag, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=naming("mine.yaml", "YAML")):
        read_yaml(f"env: {tag}", "mine.yaml")
    assert not Path("owned").exists()


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("7e-4", 7e-4),
        ("1e3", 1e3),
        (".5", 0.5),
        ("-1.5E+2", -150.0),
        (".inf", float("inf")),
        ("1_000", 1000),
        ("1_000.5", 1000.5),
        ("2020-01-01", "2020-01-01"),
        ("e3", "e3"),
        ("", None),
    ],
)
def test_read_value_of_a_scalar_follows_yaml_1_2(text, value):
    read = read_value(text, "value")
    assert read == value
    assert type(read) is type(value)


@pytest.mark.parametrize(
    "text",
    [
        "seed: 1\nseed: 2\n",
        "env:\n  a: 1\n  seed: 1\n  'seed': 1\n",
        "clients: [{seed: 1, seed: 2}]\n",
        '{"a": {"b": [{"seed": 1, "seed": 1}]}}',
    ],
)
def test_read_yaml_with_a_key_twice_names_key_and_line(text):
    with pytest.raises(UserError, match=r"mine\.yaml .*'seed' .*line [1-4]\b"):
        read_yaml(text, "mine.yaml")


def test_read_yaml_with_merged_keys_lets_later_keys_override():
    text = "base: &base {a: 1, b: 2}\nnear: {<<: *base, b: 3}\nfar: {<<: *base, a: 4}\n"
    tree = read_yaml(text, "mine.yaml")
    assert (tree["near"], tree["far"]) == ({"a": 1, "b": 3}, {"a": 4, "b": 2})


def test_read_file_that_is_not_utf8_names_the_byte(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_bytes("seed: 1\n# größer\n".encode("latin-1"))
    with pytest.raises(UserError, match=naming("mine.yaml", "UTF-8", "0xf6", "position 12")):
        read_file(file)
    file.write_bytes("seed: 1\nruns_dir: größer\n".encode())
    assert read_file(file) == {"seed": 1, "runs_dir": "größer"}
