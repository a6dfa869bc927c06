"""The pages say what is so: messages are those of the sources, Chinese pages have the same code."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"^```(python|sh)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
GAP = "…"


def python_messages() -> list[str]:
    """String literals of the package; a gap where a value is formatted in."""
    found: list[str] = []
    for path in sorted((ROOT / "python").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = [p.value if isinstance(p, ast.Constant) else GAP for p in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def engine_messages() -> list[str]:
    """String literals of a statement of C++, joined; a gap where there is code between them."""
    found = []
    for folder in ("core", "bindings"):
        for path in sorted((ROOT / folder).rglob("*.[ch]*")):
            code = re.sub(r"//.*", "", path.read_text("utf-8"))
            for statement in re.split(r";\s*\n", code):
                parts = re.split(r'"((?:[^"\\\n]|\\.)*)"', statement)
                text = ""
                for code_between, literal in zip(parts[0::2], [*parts[1::2], ""], strict=True):
                    text += (GAP if code_between.strip() else "") + literal
                found.append(text)
    return found


def test_troubleshooting_quotes_messages_that_exist() -> None:
    page = (DOCS / "troubleshooting.md").read_text("utf-8")
    rows = re.findall(r"^\| (`.*?) \|", page, re.MULTILINE)
    quotes = [quote for row in rows for quote in re.findall(r"`([^`]+)`", row)]
    assert len(quotes) > 60
    sources = "\n".join(python_messages() + engine_messages())
    # What is formatted in may be text as well: TensorFlow's versions, a file's name.
    sources = re.sub(rf"{GAP}+", GAP, sources)

    def is_there(quote: str) -> bool:
        pieces = [piece for piece in quote.split(GAP) if piece.strip(" .,;:'")]
        pattern = r"[^\n]{0,200}?".join(map(re.escape, pieces))
        return re.search(pattern, sources) is not None

    variable = {"TensorFlow 2.15 to 2.21": GAP, "checkpoint-manifest.json": GAP}
    missing = []
    for quote in quotes:
        for text, gap in variable.items():
            quote = quote.replace(text, gap)
        if not is_there(quote):
            missing.append(quote)
    assert not missing


@pytest.mark.parametrize(
    ("chinese", "english"),
    [
        ("README.md", "README.md"),
        ("quickstart.md", "docs/quickstart.md"),
        ("migration.md", "docs/migration-mxrec.md"),
    ],
)
def test_chinese_pages_have_the_same_code(chinese: str, english: str) -> None:
    theirs = BLOCK.findall((ROOT / english).read_text("utf-8"))
    ours = BLOCK.findall((DOCS / "zh" / chinese).read_text("utf-8"))
    assert theirs and ours == theirs


def test_every_page_is_in_the_navigation() -> None:
    named = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text("utf-8")))
    there = {str(path.relative_to(DOCS)) for path in DOCS.rglob("*.md")}
    assert there == named


def test_the_glossary_links_and_is_sorted() -> None:
    terms = re.findall(r"^\| \*\*(.+?)\*\*", (DOCS / "glossary.md").read_text("utf-8"), re.M)
    assert len(terms) > 30
    assert terms == sorted(terms, key=str.lower)
