"""The documentation site builds without warnings, lists all public names, and requests nothing of other hosts."""

import contextlib
import functools
import http.server
import importlib
import inspect
import os
import pkgutil
import re
import runpy
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import pytest

import rl_rms
from rl_rms.cli.main import COMMANDS
from tests.browser import chromium

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PACKAGES = (
    "rl_rms",
    "rl_rms.envs",
    "rl_rms.envs.schedules",
    "rl_rms.envs.curricula",
    "rl_rms.envs.classic_control",
    "rl_rms.envs.parameters",
    "rl_rms.agents",
)
# Internal modules, which users do not import. Every other module is public.
INTERNAL = {
    "rl_rms.agents.checkpoint",
    "rl_rms.agents.checkpoint_checks",
    "rl_rms.agents.class_paths",
    "rl_rms.agents.clipping",
    "rl_rms.agents.config_file",
    "rl_rms.agents.constructor",
    "rl_rms.agents.convolutions",
    "rl_rms.agents.encoders",
    "rl_rms.agents.env_faults",
    "rl_rms.agents.episode_tracker",
    "rl_rms.agents.env_session",
    "rl_rms.agents.env_state",
    "rl_rms.agents.imputation",
    "rl_rms.agents.initialization",
    "rl_rms.agents.info_sums",
    "rl_rms.agents.interruption",
    "rl_rms.agents.event_file",
    "rl_rms.agents.federated_checks",
    "rl_rms.agents.masks",
    "rl_rms.agents.meta_checks",
    "rl_rms.agents.meta_window",
    "rl_rms.agents.metrics",
    "rl_rms.agents.minibatches",
    "rl_rms.agents.numpy_backend",
    "rl_rms.agents.numpy_distributions",
    "rl_rms.agents.numpy_network",
    "rl_rms.agents.averaging",
    "rl_rms.agents.description",
    "rl_rms.agents.optimizers",
    "rl_rms.agents.protocols",
    "rl_rms.agents.regime_change",
    "rl_rms.agents.rollout_scaling",
    "rl_rms.agents.shared_memory",
    "rl_rms.agents.spaces",
    "rl_rms.agents.torch_backend",
    "rl_rms.agents.trainer",
    "rl_rms.agents.transfers",
    "rl_rms.agents.trees",
    "rl_rms.configs",
    "rl_rms.envs.action_transform",
    "rl_rms.envs.adversary",
    "rl_rms.envs.atari",
    "rl_rms.envs.atari_state",
    "rl_rms.envs.backend",
    "rl_rms.envs.backends",
    "rl_rms.envs.noise",
    "rl_rms.envs.changing",
    "rl_rms.envs.checks",
    "rl_rms.envs.clocks",
    "rl_rms.envs.configurable",
    "rl_rms.envs.draws",
    "rl_rms.envs.env_parameters",
    "rl_rms.envs.parameter_setter",
    "rl_rms.envs.episodes",
    "rl_rms.envs.feedback",
    "rl_rms.envs.independent_clocks",
    "rl_rms.envs.phase_clocks",
    "rl_rms.envs.curricula.choice",
    "rl_rms.envs.delays",
    "rl_rms.envs.keys",
    "rl_rms.envs.inspection",
    "rl_rms.envs.layers",
    "rl_rms.envs.copying",
    "rl_rms.envs.encoding",
    "rl_rms.envs.gymnasium_internals",
    "rl_rms.envs.minigrid_state",
    "rl_rms.envs.mujoco_state",
    "rl_rms.envs.native",
    "rl_rms.envs.plain_sync",
    "rl_rms.envs.replay",
    "rl_rms.envs.resilience",
    "rl_rms.envs.resilient_make",
    "rl_rms.envs.restarts",
    "rl_rms.envs.reward_transform",
    "rl_rms.envs.spaces",
    "rl_rms.envs.specs",
    "rl_rms.envs.sub_envs",
    "rl_rms.envs.target_transforms",
    "rl_rms.envs.targets",
    "rl_rms.envs.notices",
    "rl_rms.envs.observation_transform",
    "rl_rms.envs.observers",
    "rl_rms.envs.parameters.box2d",
    "rl_rms.envs.parameters.classic_control",
    "rl_rms.envs.parameters.mujoco",
    "rl_rms.envs.parameters.paths",
    "rl_rms.envs.parameters.toy_text",
    "rl_rms.envs.parametrized",
    "rl_rms.envs.schedules.bridges",
    "rl_rms.envs.schedules.derived",
    "rl_rms.envs.schedules.plotting",
    "rl_rms.envs.seeds",
    "rl_rms.envs.verification",
    "rl_rms.envs.wrappers",
    "rl_rms.optim.clipping",
    "rl_rms.optim.controller",
    "rl_rms.optim.guard",
    "rl_rms.optim.kernels.batch",
    "rl_rms.optim.kernels.choice",
    "rl_rms.optim.kernels.foreach",
    "rl_rms.optim.kernels.fused",
    "rl_rms.optim.kernels.kernel",
    "rl_rms.optim.kernels.plain",
    "rl_rms.optim.kernels",
    "rl_rms.optim.loading",
    "rl_rms.optim.options",
    "rl_rms.optim.plan",
    "rl_rms.optim.presets",
    "rl_rms.optim.probes",
    "rl_rms.optim.states",
    "rl_rms.optim.torch_private",
    "rl_rms.studies.drawing",
    "rl_rms.studies.episodes",
    "rl_rms.studies.forgetting",
    "rl_rms.studies.regression",
}
MODULES = sorted(module.name for module in pkgutil.walk_packages(rl_rms.__path__, "rl_rms."))
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("site")]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("mkdocs")
    folder = tmp_path_factory.mktemp("site")
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def reference(site):
    """Names in the reference, read from the site's objects.inv."""
    compressed = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    return {line.split(" ")[0] for line in zlib.decompress(compressed).decode().splitlines()}


def full_name(module, name):
    thing = getattr(importlib.import_module(module), name)
    home = getattr(thing, "__module__", None)
    return f"{home if str(home).startswith('rl_rms') else module}.{getattr(thing, '__qualname__', name)}"


@pytest.mark.parametrize("package", PACKAGES)
def test_everything_public_is_in_the_reference(reference, package):
    names = importlib.import_module(package).__all__
    modules = {name for name in names if inspect.ismodule(getattr(importlib.import_module(package), name))}
    missing = [
        name
        for name in {*names} - modules - {"__version__"}
        if not {f"{package}.{name}", full_name(package, name)} & reference
    ]
    assert missing == []
    assert {f"{package}.{name}" for name in modules} <= reference


def test_modules_are_in_the_reference_or_internal(reference):
    studies = {f"rl_rms.studies.{name}" for name in importlib.import_module("rl_rms.studies").STUDIES}
    shown = {one.rpartition(".")[0] for one in reference} | reference
    modules = {name for name in MODULES if not name.startswith("rl_rms.cli")} - studies
    homes = {
        full_name(package, name).rpartition(".")[0]
        for package in PACKAGES
        for name in importlib.import_module(package).__all__
    }
    assert modules - shown - homes == INTERNAL


def test_reference_page_of_a_module_has_all_its_public_names(reference):
    pages = "\n".join(page.read_text() + "\n" for page in (DOCS / "api").glob("*.md"))
    # Directives of mkdocstrings without a selection of members.
    whole = re.findall(
        r"^::: ([\w.]+)\n    options:\n      show_root_full_path: true\n(?!      members)", pages, re.M
    )
    modules = [name for name in whole if name in MODULES]
    assert len(modules) > 20
    missing = [
        f"{module}.{name}"
        for module in modules
        for name, thing in vars(importlib.import_module(module)).items()
        if is_public(module, name, thing) and f"{module}.{name}" not in reference
    ]
    assert missing == []


def is_public(module, name, thing):
    defined = inspect.isclass(thing) or inspect.isfunction(thing)
    return not name.startswith("_") and defined and thing.__module__ == module


def test_imports_of_pages_and_examples_are_in_the_reference(reference):
    texts = [path.read_text() for path in [ROOT / "README.md", *DOCS.rglob("*.md"), *ROOT.glob("examples/*.*")]]
    found = re.findall(r"from (rl_rms[\w.]*) import ([\w, ]+)", "\n".join(texts))
    names = {(module, name.strip()) for module, several in found for name in several.split(",") if name.strip()}
    assert len(names) > 40
    missing = [
        f"{module}.{name}"
        for module, name in names
        if not {f"{module}.{name}", full_name(module, name)} & reference
    ]
    assert missing == []


def test_names_in_pages_exist():
    texts = [path.read_text() for path in [ROOT / "README.md", *DOCS.rglob("*.md")]]
    names = set(re.findall(r"`(rl_rms(?:\.\w+)+)[(`]", "\n".join(texts)))
    assert len(names) > 20
    for name in names:
        module = max(
            (one for one in MODULES if name == one or name.startswith(f"{one}.")), default="rl_rms", key=len
        )
        functools.reduce(getattr, filter(None, name[len(module) :].split(".")), importlib.import_module(module))


def test_contributing_lists_every_module_with_its_purpose():
    with_table = runpy.run_path(str(DOCS / "list_modules.py"))["with_table"]
    page = (ROOT / "CONTRIBUTING.md").read_text()
    assert page == with_table(page), "run python docs/list_modules.py"


def test_names_in_pages_link_to_the_reference(site):
    page = (site / "half_life.html").read_text()
    assert re.search(r'<a [^>]*href="api/rule.html#rl_rms.laws.matched_half_life"[^>]*><code>', page)
    table = (site / "cheat_sheet.html").read_text()
    assert re.search(r'<td><a [^>]*href="api/agents.html#rl_rms.agents.evaluate"[^>]*><code>', table)
    (inherited,) = re.findall(r"<td>(.*rl_rms\.agents\.A2C\.learn.*)</td>", table)
    assert 'href="api/agents.html#rl_rms.agents.A2C.learn"' in inherited


def test_site_loads_nothing_from_other_hosts(site):
    pages = list(site.rglob("*.html"))
    assert len(pages) > 40
    for page in pages:
        text = page.read_text()
        loaded = re.findall(r'<(?:script|img|iframe|source|video)\b[^>]*\bsrc="?((?:https?:)?//[^"\s>]+)', text)
        loaded += [
            link
            for link in re.findall(r"<link\b[^>]*>", text)
            if re.search(r'href="?(?:https?:)?//', link) and "canonical" not in link
        ]
        assert not loaded, page
    for sheet in site.rglob("*.css"):
        assert not re.search(r"url\([\"']?(?:https?:)?//", sheet.read_text()), sheet


def test_site_reference_of_the_command_line_lists_every_command_and_option(site):
    page = (site / "api" / "cli.html").read_text()
    for word in (*COMMANDS, "--agent.half_life", "--agent.learning_rate", "--env.id", "--episodes", "--rounds"):
        assert word in page, word


def test_site_search_finds_pages_without_other_hosts(site):
    timeout = pytest.importorskip("playwright.sync_api").TimeoutError
    handler = functools.partial(Quiet, directory=str(site))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        home = f"http://127.0.0.1:{server.server_port}/"
        with chromium() as browser:
            page = browser.new_page(viewport={"width": 1300, "height": 900})
            asked, wrong = [], []
            page.on("request", lambda request: asked.append(request.url))
            page.on("pageerror", lambda error: wrong.append(str(error)))
            page.goto(f"{home}index.html")
            # Typing has no effect before the search has loaded, so it is repeated with longer and longer timeouts.
            found = page.locator(".md-search-result__link").first
            for seconds in (2, 4, 8, 16, 32, 64):
                page.get_by_placeholder("Search").fill("")
                page.get_by_placeholder("Search").fill("matched_half_life")
                with contextlib.suppress(timeout):
                    found.wait_for(timeout=1_000 * seconds)
                    break
            assert found.count() == 1
            assert "matched_half_life" in page.locator(".md-search-result__list").inner_text()
            if (ROOT / ".venv" / "mermaid.min.js").exists():
                page.goto(f"{home}architecture.html")
                page.locator("div.mermaid").wait_for()  # the theme replaces the diagram's text by a div
                assert page.locator("div.mermaid").bounding_box()["height"] > 300
            for name in (
                "concepts.html",
                "half_life.html",
                "benchmarks.html",
                "api/optimizer.html",
                "api/cli.html",
            ):
                page.set_viewport_size({"width": 390, "height": 800})
                page.goto(home + name)
                assert page.evaluate("document.documentElement.scrollWidth") <= 390
        server.shutdown()
    assert wrong == []
    assert [url for url in asked if not url.startswith((home, "data:", "blob:"))] == []


def test_figures_of_concepts_come_from_the_command_of_their_page(tmp_path):
    runpy.run_path(str(DOCS / "draw_concepts.py"))["main"](tmp_path)
    page = (DOCS / "concepts.md").read_text()
    assert "python docs/draw_concepts.py" in page
    shown = re.findall(r"\(images/(concept_\w+\.png)\)", page)
    assert (
        {path.name for path in tmp_path.iterdir()}
        == set(shown)
        == {path.name for path in DOCS.glob("images/concept_*")}
    )


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Logs no requests."""

    def log_message(self, *_):
        pass
