"""Dependencies are declared, bounded as CONTRIBUTING.md describes, pinned and audited."""

import ast
import re
import shutil
import subprocess
import sys
from importlib.metadata import distributions, packages_distributions
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

tomllib = pytest.importorskip("tomllib")  # since Python 3.11

ROOT = Path(__file__).resolve().parent.parent
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PROJECT = PYPROJECT["project"]
TOOLS = ("dev", "docs")
# Extras for other packages' environments and for experiment trackers. The constraints files pin only their mujoco.
UNPINNED = ("atari", "dm-control", "minigrid", "robotics", "wandb", "mlflow")


def requirements_of(extras):
    return [Requirement(text) for extra in extras for text in PROJECT["optional-dependencies"][extra]]


# Requirements of users: the core and the extras, without tools and without `UNPINNED`.
USED = [Requirement(text) for text in PROJECT["dependencies"]] + requirements_of(
    extra for extra in PROJECT["optional-dependencies"] if extra not in TOOLS + UNPINNED
)
BUILDING = [Requirement(text) for text in PYPROJECT["build-system"]["requires"]]
# Optional imports, which Gymnasium's extra box2d installs.
BROUGHT = {"Box2D"}


def bound(requirement, operator):
    (version,) = [part.version for part in requirement.specifier if part.operator == operator]
    return Version(version)


def pins(name):
    lines = (ROOT / name).read_text().splitlines()
    return [Requirement(line) for line in lines if not line.startswith("#")]


@pytest.mark.parametrize("requirement", USED + requirements_of(UNPINNED), ids=str)
def test_user_dependencies_have_a_lower_bound_and_end_before_the_next_major_version(requirement):
    assert {part.operator for part in requirement.specifier} == {">=", "<"}
    assert bound(requirement, ">=") < bound(requirement, "<")


def test_developer_dependencies_have_a_lower_bound():
    tools = requirements_of(TOOLS) + BUILDING
    operators = [
        [part.operator for part in requirement.specifier if part.operator != "!="] for requirement in tools
    ]
    assert all(one == [">="] for one in operators)


def test_lower_bounds_equal_the_tested_lowest_versions():
    allowed = {canonicalize_name(one.name): bound(one, ">=") for one in USED + BUILDING}
    tested = {canonicalize_name(one.name): bound(one, "==") for one in pins("constraints-lowest.txt")}
    tested.pop("pyarrow")  # only other packages need pyarrow, so pyproject.toml does not name it
    assert tested == allowed


def test_bounds_of_a_package_are_the_same_everywhere():
    for requirement in USED:
        same = {str(one.specifier) for one in USED if one.name == requirement.name}
        assert len(same) == 1, requirement.name


def test_pinned_versions_are_within_the_bounds():
    pinned = {canonicalize_name(one.name): bound(one, "==") for one in pins("constraints.txt")}
    for requirement in USED + BUILDING + requirements_of(TOOLS):
        assert requirement.specifier.contains(pinned[canonicalize_name(requirement.name)]), requirement


def test_dependencies_of_pinned_versions_are_pinned():
    pinned = {canonicalize_name(one.name): bound(one, "==") for one in pins("constraints.txt")}
    for distribution in distributions():
        # Other versions, such as the oldest ones, may have other dependencies.
        if pinned.get(canonicalize_name(distribution.name)) != Version(Version(distribution.version).public):
            continue
        for requirement in map(Requirement, distribution.requires or ()):
            if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
                version = pinned.get(canonicalize_name(requirement.name))
                assert version, f"{distribution.name} needs {requirement}: run `make lock`"
                assert requirement.specifier.contains(version), (distribution.name, str(requirement), str(version))


def test_other_pythons_use_only_the_pinned_torch():
    assert [one.name for one in pins("constraints.txt") if one.marker is None] == ["torch"]


def test_imported_packages_are_declared():
    named = {canonicalize_name(requirement.name) for requirement in USED}
    homes = packages_distributions()
    for path in (ROOT / "rl_rms").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                modules = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                modules = {str(node.module).split(".")[0]}
            else:
                continue
            for module in modules - sys.stdlib_module_names - BROUGHT - {"rl_rms"}:
                distributions = {canonicalize_name(name) for name in homes.get(module, [module])}
                assert distributions & named, f"{path} imports {module}, which pyproject.toml does not name"


@pytest.fixture
def audit(tmp_path):
    """`make audit` with a fake pip-audit that reports given vulnerabilities."""
    if shutil.which("make") is None:
        pytest.skip("make is missing")
    tool = tmp_path / ".venv-audit" / "bin" / "pip-audit"
    tool.parent.mkdir(parents=True)
    for name in ("Makefile", "constraints.txt"):
        shutil.copy(ROOT / name, tmp_path)

    def run(script):
        tool.write_text(f'#!/bin/sh\nfor file; do :; done\necho "$file" >>asked\n{script}\n')
        tool.chmod(0o755)
        (tmp_path / ".venv-audit" / "installed").touch()
        return subprocess.run(
            ["make", "audit"], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
        )

    return run


def test_audit_first_finds_a_known_vulnerability(audit, tmp_path):
    done = audit('case "$file" in *vulnerable.txt) echo jinja2 3.1.2 CVE-2024-22195; exit 1;; esac')
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "asked").read_text().split() == [".venv-audit/vulnerable.txt", "constraints.txt"]
    assert (tmp_path / ".venv-audit" / "vulnerable.txt").read_text() == "jinja2==3.1.2\n"


@pytest.mark.parametrize("unknown", ["exit 1", 'case "$*" in *--strict*) exit 1;; esac'])
def test_audit_fails_for_a_vulnerable_or_unknown_package(audit, unknown):
    done = audit(f'case "$file" in *vulnerable.txt) echo jinja2 3.1.2 CVE-2024-22195; exit 1;; esac; {unknown}')
    assert done.returncode != 0
    assert "nothing was audited" not in done.stdout


@pytest.mark.parametrize("script", ["echo No known vulnerabilities found", "echo cannot connect; exit 1"])
def test_audit_without_a_working_service_fails(audit, tmp_path, script):
    done = audit(script)
    assert done.returncode != 0
    assert re.search("nothing was audited.*jinja2 3.1.2", done.stdout)
    assert "constraints.txt" not in (tmp_path / "asked").read_text()


@pytest.mark.xdist_group("alone")
def test_groups_of_xdist_have_an_effect(request):
    if not hasattr(request.config, "workerinput"):
        pytest.skip("not under pytest-xdist")
    assert request.node.nodeid.endswith("@alone")
