"""Packages have no import cycles, including lazy imports and imports for type checking."""

import grimp
import pytest

PACKAGES = [
    "rl_rms.agents",
    "rl_rms.envs",
    "rl_rms.optim",
]


@pytest.fixture(scope="module")
def graph():
    return grimp.build_graph("rl_rms", exclude_type_checking_imports=False, cache_dir=None)


def cycle_in(graph, package):
    """An import cycle of a package, as the list of its modules; None without a cycle."""
    modules = {module for module in graph.modules if module == package or module.startswith(f"{package}.")}
    done = set()
    for start in sorted(modules):
        path, pending = [], [(start, False)]
        while pending:
            module, is_left = pending.pop()
            if is_left:
                path.pop()
                done.add(module)
            elif module in path:
                return path[path.index(module) :]
            elif module not in done:
                path.append(module)
                pending.append((module, True))
                pending += [(one, False) for one in graph.find_modules_directly_imported_by(module) & modules]
    return None


@pytest.mark.parametrize("package", PACKAGES)
def test_imports_within_a_package_form_no_cycle(graph, package):
    assert cycle_in(graph, package) is None


def test_cycle_in_a_graph_with_a_cycle_names_its_modules():
    graph = grimp.ImportGraph()
    for importer, imported in [("p.a", "p.b"), ("p.b", "p.c"), ("p.c", "p.b"), ("p.a", "q"), ("q", "p.a")]:
        graph.add_import(importer=importer, imported=imported)
    assert set(cycle_in(graph, "p")) == {"p.b", "p.c"}
