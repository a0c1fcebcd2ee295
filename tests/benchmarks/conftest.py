"""The benchmarks are scripts, not a package: each is loaded from the file that its tests name as PATH."""

import importlib.util
import sys

import pytest


@pytest.fixture(scope="module")
def benchmark(request):
    path = request.module.PATH
    spec = importlib.util.spec_from_file_location(f"{path.stem}_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(path.parent))  # for what lies beside it
        patch.setitem(sys.modules, spec.name, module)  # for its dataclasses
        spec.loader.exec_module(module)
        yield module
