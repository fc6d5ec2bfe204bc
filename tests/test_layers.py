"""The structure holds: imports point downward, files and functions stay readable, public names stay few."""

import ast
import pathlib

import pytest

import regraft

ROOT = pathlib.Path(regraft.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

# A module may import from its own level only where that is said; everything else must come from a lower level.
LEVELS = [
    {"errors", "config", "randomness", "latent", "gan", "wrap", "jobs", "observation", "__init__"},
    {
        "discover",
        "build",
        "catalogue",
        "download",
        "objectives",
        "ada",
        "augment",
        "images",
        "_pixels",
        "_npz",
        "norms",
        "mining",
        "mixture",
        "scaling",
        "perceptual",
        "mind",
        "codes",
        "store",
        "pictures",
        "advice",
        "nearest",
        "copying",
        "_charts",
        "weights",
        "_containers",
        "_pickles",
    },
    {"methods", "backbones", "formats", "metrics", "extractors", "regularizers"},
    {"engine", "train", "evaluation", "adapter", "verdict"},
    {
        *(
            "_sampling",
            "loading",
            "_adapting",
            "_measuring",
            "api",
            "saving",
            "pretraining",
            "diagnosis",
            "encoding",
            "published",
            "classifying",
        ),
        *("_labels", "_given_codes", "_records", "_folders", "lengthening"),
        *("_finishing", "_ending", "_report_parts", "_report_charts", "reporting", "checking", "ranking"),
    },
    {"_options", "_progress", "_commands", "_source_commands", "cli", "__main__"},
]
JOBS = {"train", "evaluation", "adapter"}
FOLDERS = {"methods", "backbones", "formats", "metrics", "extractors", "regularizers"}


def level(module):
    for number, names in enumerate(LEVELS):
        if module.split(".")[0] in names:
            return number
    raise AssertionError(f"{module} has no level: add it to LEVELS")


def imports(path):
    """Modules of regraft that a file imports anywhere."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "regraft":
            inner = node.module.removeprefix("regraft").lstrip(".")
            if inner in FOLDERS:
                yield from (f"{inner}.{a.name}" for a in node.names)
            elif inner:
                yield inner
            else:
                yield from (a.name for a in node.names if a.name != "__version__")
        elif isinstance(node, ast.Import):
            yield from (a.name.removeprefix("regraft.") for a in node.names if a.name.startswith("regraft."))


def name_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_imports_point_downward(path):
    own = name_of(path)
    if own == "__init__":
        return
    for other in imports(path):
        assert level(other) <= level(own), f"{own} imports {other}, which is above it"
        assert not (own in JOBS and other in JOBS), f"the jobs {own} and {other} must not know each other"


@pytest.mark.parametrize("path", [p for p in FILES if p.parent.name in FOLDERS], ids=name_of)
def test_plugins_do_not_import_siblings(path):
    folder = path.parent.name
    for other in imports(path):
        head, _, tail = other.partition(".")
        if head == folder and tail:
            assert tail == "base" or tail.startswith("_"), f"{name_of(path)} imports its sibling {other}"
        elif head in FOLDERS:
            raise AssertionError(f"{name_of(path)} imports {other} of another plug-in folder")


@pytest.mark.parametrize("path", FILES, ids=name_of)
def test_files_and_functions_stay_short(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 420, "past 400 lines a concept is missing"
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef):
            body = node.body[1:] if ast.get_docstring(node) else node.body
            length = (body[-1].end_lineno - body[0].lineno + 1) if body else 0
            assert length <= 65, f"{node.name} has {length} lines"


def test_no_torchvision_and_no_unsafe_load():
    for path in FILES:
        text = path.read_text()
        assert "torchvision" not in text
        for line in text.splitlines():
            if "torch.load(" in line:
                assert "weights_only=True" in line, f"{path.name}: {line}"


def test_public_names_exist_and_are_few():
    assert len(regraft.__all__) <= 25
    for name in regraft.__all__:
        assert getattr(regraft, name).__doc__
