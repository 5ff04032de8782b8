"""The documents say only what is there: links, commands, files, names, settings, queries."""

import ast
import re
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer
from temporalio.testing import WorkflowEnvironment
from typer.testing import CliRunner

import crm
from api.app import create_app
from settings import Settings
from tests.sources import ROOT, python_files

DECISIONS = sorted((ROOT / "docs" / "decisions").glob("*.md"))
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *DECISIONS]
PICTURES = sorted((ROOT / "docs" / "pictures").glob("*.png"))
OPERATIONS = ROOT / "docs" / "operations.md"

# Made up by the documents, or somebody else's.
NOT_OURS = {
    *("order_lost", "record_lost", "OrderLost", "OrderLostEvent"),
    *("send_message", "get_server", "pg_dump"),
}
IN_DATA_DIR = ("var/", "postgres/", "temporal/", "secrets/", "logs/", "socket/")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*(\(.*\))?")
_FILE = re.compile(r"(?:[a-z_]+/)+(?:[A-Za-z0-9_.-]+\.[a-z]+)?|[a-z_-]+\.(?:py|yml|toml)")


def _id(path: Path) -> str:
    return str(path.relative_to(ROOT))


every_document = pytest.mark.parametrize("document", DOCUMENTS, ids=_id)


def _spans(text: str) -> list[str]:
    """What is set in code style within a line."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"`([^`\n]+)`", prose)


def _blocks(text: str, language: str) -> list[str]:
    fence = rf"^```{language}\n(.*?)^```"
    return re.findall(fence, text, flags=re.DOTALL | re.MULTILINE)


@cache
def _names() -> frozenset[str]:
    """Every name in our Python code."""
    found: set[str] = set()
    for path in python_files():
        if path == Path(__file__):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            found |= set(_named_by(node))
    return frozenset(found)


def _named_by(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            yield node.name
        case ast.Name():
            yield node.id
        case ast.Attribute():
            yield node.attr
        case ast.alias():
            yield from node.name.split(".")
        case ast.arg() | ast.keyword() if node.arg:
            yield node.arg
        case ast.Constant() if isinstance(node.value, str) and node.value.isidentifier():
            yield node.value


@every_document
def test_every_link_leads_somewhere(document: Path) -> None:
    text = document.read_text()
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("http"):
            continue
        name, _, anchor = target.partition("#")
        found = (document.parent / name).resolve() if name else document
        assert found.exists(), f"{target} leads nowhere"
        if anchor:
            headings = re.findall(r"^#+ (.+)$", found.read_text(), flags=re.MULTILINE)
            assert anchor in {_anchor(heading) for heading in headings}, target


def _anchor(heading: str) -> str:
    kept = re.sub(r"[^\w\- ]", "", heading.lower())
    return kept.replace(" ", "-")


@every_document
def test_every_make_command_is_a_target(document: Path) -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    named = re.findall(r"(?:^|`)(?:[A-Z_]+=\S+ )*make ([a-z]+)", document.read_text(), re.MULTILINE)
    assert set(named) <= targets


@every_document
def test_every_crm_command_explains_itself(document: Path) -> None:
    for line in re.findall(r"crm\.py ([^`\n#)]+)", document.read_text()):
        words = re.sub(r"\[.*?\]|…", "", line).split()
        command: Any = typer.main.get_command(crm.app)
        path = []
        while words and words[0] in getattr(command, "commands", {}):
            path.append(words.pop(0))
            command = command.commands[path[-1]]
        assert path or words == ["--help"] or not words[0].islower(), f"no command: crm.py {line}"
        done = CliRunner().invoke(crm.app, [*path, "--help"])
        assert done.exit_code == 0
        known = {option for parameter in command.params for option in parameter.opts}
        options = {word for word in words if word.startswith("--")}
        assert options <= known | {"--help"}, f"crm.py {line}"


@every_document
def test_every_file_named_is_there(document: Path) -> None:
    for span in _spans(document.read_text()):
        named = re.sub(r"[:,] .*", "", span).split(" ")[0]
        if not _FILE.fullmatch(named) or named.startswith(IN_DATA_DIR):
            continue
        assert (ROOT / named).exists() or (document.parent / named).exists(), named


@every_document
def test_every_name_is_in_the_code(document: Path) -> None:
    for span in _spans(document.read_text()):
        if not _IDENTIFIER.fullmatch(span):
            continue
        parts = re.sub(r"\(.*\)", "", span).split(".")
        if len(parts) > 1 and not parts[0][0].isupper():
            continue  # a file, or a column as table.column
        for part in parts:
            telling = "_" in part.strip("_") or re.search(r"[a-z][A-Z]", part)
            if telling and not part.startswith(("CRM_", "PG_")) and part not in NOT_OURS:
                assert part in _names() or part in Settings.model_fields, f"{span}: no {part}"


@every_document
def test_every_variable_is_a_setting(document: Path) -> None:
    named = set(re.findall(r"\bCRM_[A-Z_]+", document.read_text()))
    assert named <= {f"CRM_{name.upper()}" for name in Settings.model_fields}


def test_the_table_of_settings_is_complete_and_right() -> None:
    rows = re.findall(r"^\| `(CRM_\w+)` \| `?([^|`]*)`? \|", OPERATIONS.read_text(), re.MULTILINE)
    said = {name: default.strip() for name, default in rows}
    assert said == {
        f"CRM_{name.upper()}": _as_said(field.default)
        for name, field in Settings.model_fields.items()
    }


def _as_said(default: Any) -> str:
    if isinstance(default, bool):
        return str(default).lower()
    return "" if default is None else str(default)


def test_what_docker_compose_reads_does_not_disturb_the_rest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    example = (ROOT / "deploy" / "env.example").read_text()
    (tmp_path / ".env").write_text(example.replace("=\n", "=x\n") + "CRM_COMPANY=Acme\n")
    monkeypatch.chdir(tmp_path)
    assert Settings.from_environment().company == "Acme"


async def test_the_queries_for_operators_are_understood(temporal: WorkflowEnvironment) -> None:
    queries = _blocks(OPERATIONS.read_text(), "temporal")
    assert len(queries) == 5
    for query in queries:
        await temporal.client.count_workflows(query.strip())


@pytest.fixture(scope="module")
def routes(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, str]]:
    """Method and pattern of each."""
    settings = Settings(data_dir=tmp_path_factory.mktemp("no-data"))
    return [
        (method.upper(), re.sub(r"\\{.*?\\}", "[^ ?]+", re.escape(path)))
        for path, methods in create_app(settings).openapi()["paths"].items()
        for method in methods
    ]


@every_document
def test_every_request_has_a_route(document: Path, routes: list[tuple[str, str]]) -> None:
    text = re.sub(r"<[^>\n]+>", "{x}", document.read_text())
    for method, path in re.findall(r"\b(GET|POST|PUT|PATCH) (/[^`?\s]+)", text):
        assert any(m == method and re.fullmatch(p, path) for m, p in routes), f"{method} {path}"


@pytest.mark.parametrize("decision", DECISIONS, ids=_id)
def test_a_decision_has_its_parts_and_fits_a_page(decision: Path) -> None:
    text = decision.read_text()
    parts = ["Context", "Decision", "Consequences", "Alternatives", "The check"]
    assert re.findall(r"^## (.+)$", text, flags=re.MULTILINE) == parts
    assert text.startswith(f"# {decision.name[:4]} ")
    assert len(text.splitlines()) <= 60


@pytest.mark.parametrize("picture", PICTURES, ids=_id)
def test_a_picture_is_wide_enough_and_not_heavy(picture: Path) -> None:
    data = picture.read_bytes()
    width, _ = struct.unpack(">II", data[16:24])
    assert data[:4] == b"\x89PNG"
    assert (width, len(data) <= 250_000) == (1280, True)


def test_every_picture_is_shown() -> None:
    shown = "".join(document.read_text() for document in DOCUMENTS)
    assert [picture.name for picture in PICTURES if picture.name not in shown] == []
