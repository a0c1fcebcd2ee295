"""Loads each benchmark script from the file that its test names as PATH."""

import importlib.util
import sys

import pytest


@pytest.fixture(scope="module")
def benchmark(request):
    path = request.module.PATH
    spec = importlib.util.spec_from_file_location(f"{path.stem}_benchmark", path)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        # The script may import modules of its folder. The decorator dataclass needs the script in sys.modules.
        patch.syspath_prepend(str(path.parent))
        patch.setitem(sys.modules, spec.name, module)
        spec.loader.exec_module(module)
        yield module
