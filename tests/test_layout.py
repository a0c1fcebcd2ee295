"""The tests mirror the package: `tests/envs/test_drift.py` for `rl_rms/envs/drift.py`."""

from pathlib import Path

TESTS = Path(__file__).parent
PACKAGE = TESTS.parent / "rl_rms"
BOTH_BACKENDS = "tests/agents/test_backends.py compares actions and gradients of both backends"
EVERY_KERNEL = "tests/optim/kernels/test_kernels.py compares every kernel with the rule"
INTERFACE = "an interface without behavior of its own"
# Modules without a test file of their own, each with the reason.
COVERED = {
    "agents/meta_window.py": "tests/agents/test_meta.py unrolls, saves and loads the window",
    "agents/numpy_backend.py": BOTH_BACKENDS,
    "agents/numpy_distributions.py": BOTH_BACKENDS,
    "agents/numpy_network.py": BOTH_BACKENDS,
    "agents/protocols.py": INTERFACE,
    "envs/backend.py": INTERFACE,
    "envs/keys.py": "only names",
    "envs/schedules/derived.py": "tests/envs/schedules/test_algebra.py tests the schedules that derive from it",
    "optim/kernels/foreach.py": EVERY_KERNEL,
    "optim/kernels/kernel.py": INTERFACE,
    "optim/kernels/plain.py": EVERY_KERNEL,
}


def test_modules_without_a_test_file_of_their_own_are_those_with_a_reason():
    modules = {path.relative_to(PACKAGE) for path in PACKAGE.rglob("*.py") if path.name != "__init__.py"}
    missing = {
        module.as_posix() for module in modules if not (TESTS / module.parent / f"test_{module.name}").is_file()
    }
    assert missing == set(COVERED)


def test_reasons_name_test_files_that_exist():
    named = {
        word for reason in COVERED.values() for word in reason.split() if word.endswith(".py") and "/" in word
    }
    assert len(named) == 4
    assert [name for name in named if not (TESTS.parent / name).is_file()] == []
