"""Names: one class a name, no module that nothing uses, none too long, none unmapped."""

import ast
import itertools
import re
import subprocess
import tomllib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from tasks.core.config.installation import ROOT

SOURCES = ("flows", "tasks", "deployments", "infra")
CORE = ROOT / "tasks/core"
MOST_LINES = 400
ENTRY = re.compile(r'^if __name__ == "__main__":', re.M)


def sources(*folders: str) -> list[Path]:
    """The Python files of these folders that git tracks, or does not ignore."""
    listed = ["git", "ls-files", "-co", "--exclude-standard", *(f"{folder}/*.py" for folder in folders)]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return [ROOT / name for name in sorted(set(names)) if (ROOT / name).is_file()]


def module(path: Path) -> str:
    """The name that a file is imported by."""
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def imported(paths: list[Path]) -> Iterator[tuple[Path, str]]:
    """Each file with every name that it imports."""
    for path in paths:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                yield from ((path, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                yield path, str(node.module)
                yield from ((path, f"{node.module}.{alias.name}") for alias in node.names)


def test_no_two_public_classes_share_a_name() -> None:
    places = defaultdict(list)
    for path in sources(*SOURCES):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places[node.name].append(module(path))
    assert len(places) > 100
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


def test_every_module_has_an_importer_or_is_an_entry_point() -> None:
    files = sources(*SOURCES)
    used = {name for path, name in imported(files) if name != module(path)}
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"].get("scripts", {}).values()
    used |= {script.partition(":")[0] for script in scripts}
    started = {module(path) for path in files if ENTRY.search(path.read_text())}
    by_name = {f"deployments.{service}.app" for service in ("storefront", "gateway")}
    packages = {module(path) for path in files if path.name == "__init__.py"}
    assert sorted({module(path) for path in files} - used - started - by_name - packages) == []


def test_no_package_is_empty() -> None:
    packages = [path.parent for path in sources(*SOURCES) if path.name == "__init__.py"]
    assert [str(p.relative_to(ROOT)) for p in packages if len(list(p.rglob("*.py"))) == 1] == []


def test_no_module_is_too_long() -> None:
    long = [(module(p), n) for p in sources(*SOURCES) if (n := len(p.read_text().splitlines())) > MOST_LINES]
    assert long == []


def test_core_does_not_read_the_environment() -> None:
    """The environment is read only at process entry points."""
    edges = {"tasks.core.config.installation", "tasks.core.training.worker"}
    readers = [
        module(path)
        for path in sources("tasks/core")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Settings"
    ]
    assert set(readers) <= edges


def test_the_map_has_a_line_for_every_module_of_core() -> None:
    text = (ROOT / "docs/map.md").read_text()
    lines = dict(re.findall(r"^- `(tasks/core/[\w/]+\.py)`: (.+)$", text, re.M))
    files = [str(path.relative_to(ROOT)) for path in sources("tasks/core") if path.read_text().strip()]
    assert sorted(set(files) - set(lines)) == [], "add a line to docs/map.md"
    assert sorted(set(lines) - set(files)) == [], "a module that docs/map.md names does not exist"
    assert [file for file, line in lines.items() if len(line) < 15] == []


def test_each_path_of_the_map_follows_imports() -> None:
    """A path is a numbered list of files, each of which imports the next; the store connects the lists."""
    text = (ROOT / "docs/map.md").read_text().split("## Two ways", 1)[1]
    steps = [(int(n), ROOT / file) for n, file in re.findall(r"^(\d+)\. `([\w/]+\.py)`", text, re.M)]
    used = defaultdict(set)
    for path, name in imported([file for _, file in steps]):
        used[path].add(name)
    pairs = [(above, below) for (_, above), (n, below) in itertools.pairwise(steps) if n > 1]
    assert len(pairs) >= 20
    assert [(module(a), module(b)) for a, b in pairs if module(b) not in used[a]] == []
