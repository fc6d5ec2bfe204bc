"""The structure holds: imports point downward, no module is in a circle, files and functions stay readable, names stay few."""

import ast
import pathlib

import pytest

import regraft

ROOT = pathlib.Path(regraft.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))
PLUGINS = ("methods", "backbones", "formats", "metrics", "extractors", "regularizers")

# A file imports from its own folder and from the folders of lower levels, and from nothing else.
LEVELS = [
    {"core"},
    {"backbones", "composites", "files"},
    {"data"},
    {"formats", "extractors", "metrics"},
    {"runs"},
    {"training"},
    {"regularizers"},
    {"methods"},
    {"evaluation"},
    {"verbs"},
    {"cli"},
]
LEVEL = {folder: number for number, folders in enumerate(LEVELS) for folder in folders}


def name_of(path):
    """Dotted name of a file below the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name_of(path): path for path in FILES}


def imports(path):
    """Modules of regraft that a file imports anywhere, also inside functions."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "regraft":
            inner = node.module.removeprefix("regraft").lstrip(".")
            for alias in node.names:
                full = f"{inner}.{alias.name}".lstrip(".")
                yield full if full in MODULES else inner
        elif isinstance(node, ast.Import):
            yield from (a.name.removeprefix("regraft").lstrip(".") for a in node.names if a.name.split(".")[0] == "regraft")


IMPORTS = {name: sorted(set(imports(path)) - {name}) for name, path in MODULES.items()}


def test_every_folder_has_a_level_and_the_root_is_small():
    folders = {p.name for p in ROOT.iterdir() if p.is_dir() and any(p.glob("*.py"))}
    assert folders == set(LEVEL)
    entries = [p.name for p in ROOT.iterdir() if p.name != "__pycache__"]
    assert len(entries) <= 20, sorted(entries)
    assert not [name for name in entries if name.startswith("_") and not name.startswith("__")]


@pytest.mark.parametrize("name", sorted(name for name in MODULES if "." in name))
def test_imports_point_downward(name):
    folder = name.partition(".")[0]
    for other in IMPORTS[name]:
        assert other, f"{name} imports the package's face, which lies above everything"
        theirs = other.partition(".")[0]
        assert theirs == folder or LEVEL[theirs] < LEVEL[folder], f"{name} imports {other}, which is not below it"


def test_no_module_is_in_a_circle():
    state = {}

    def visit(name, way):
        state[name] = "open"
        for other in IMPORTS[name]:
            if other in MODULES and state.get(other) == "open":
                circle = [*way[way.index(other) :], other] if other in way else [other, name]
                raise AssertionError(f"a circle of imports: {' -> '.join(circle)}")
            if other in MODULES and other not in state:
                visit(other, [*way, other])
        state[name] = "done"

    # The face of the package imports the verbs when they are first used; nothing imports it.
    for name in sorted(set(MODULES) - {""}):
        if name not in state:
            visit(name, [name])


@pytest.mark.parametrize("name", sorted(name for name in MODULES if name.partition(".")[0] in PLUGINS))
def test_plugins_do_not_import_siblings(name):
    folder = name.partition(".")[0]
    for other in IMPORTS[name]:
        head, _, tail = other.partition(".")
        if head == folder and tail:
            assert tail == "base" or tail.startswith("_"), f"{name} imports its sibling {other}"


@pytest.mark.parametrize("name", sorted(MODULES))
def test_underscored_files_are_imported_from_their_own_folder_only(name):
    """A folder's sub-folders belong to it."""
    for other in IMPORTS[name]:
        folder, _, file = other.rpartition(".")
        assert not file.startswith("_") or name.startswith(f"{folder}."), f"{name} imports {other}, private to {folder}"


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_and_functions_stay_short(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 400, "past 400 lines a concept is missing"
    assert "fmt: skip" not in text
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = (body[-1].end_lineno - body[0].lineno + 1) if body else 0
            assert length <= 65, f"{node.name} has {length} lines"


def test_no_torchvision_and_no_unsafe_load():
    for path in FILES:
        text = path.read_text(encoding="utf-8")
        assert "torchvision" not in text
        for line in text.splitlines():
            if "torch.load(" in line:
                assert "weights_only=True" in line, f"{path.name}: {line}"


def test_public_names_exist_and_are_few():
    assert len(regraft.__all__) <= 30
    for name in regraft.__all__:
        assert getattr(regraft, name).__doc__
