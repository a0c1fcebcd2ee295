"""Write the table of modules in CONTRIBUTING.md from the first paragraph of each module's docstring.

Run: python docs/list_modules.py
"""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "CONTRIBUTING.md"
# The packages in the order of their layers; None stands for the modules of rl_rms itself.
PACKAGES = (None, "optim", "envs", "agents", "sb3", "studies", "cli", "configs")
_TABLE = re.compile(r"(?<=<!-- modules -->\n).*(?=<!-- end of modules -->)", re.DOTALL)


def summary(path: Path) -> str:
    """The first paragraph of a module's docstring, in one line."""
    docstring = ast.get_docstring(ast.parse(path.read_text())) or ""
    return " ".join(docstring.split("\n\n")[0].split()).replace("|", "\\|")


def table() -> str:
    """One row for each module, by package."""
    lines = ["", "| module | purpose |", "| --- | --- |"]
    package = ROOT / "rl_rms"
    for name in PACKAGES:
        paths = package.glob("*.py") if name is None else (package / name).rglob("*.py")
        lines += [f"| `{path.relative_to(package).as_posix()}` | {summary(path)} |" for path in sorted(paths)]
    return "\n".join([*lines, "", ""])


def with_table(page: str) -> str:
    """Replace the table in the page's text by the current table."""
    return _TABLE.sub(lambda _: table(), page)


if __name__ == "__main__":
    PAGE.write_text(with_table(PAGE.read_text()))
