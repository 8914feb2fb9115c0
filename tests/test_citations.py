"""What the code cites can be found: every section of SPEC.md and of the package's README.md that is named exists."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SPEC, HOUSE = Path("tests/parity/SPEC.md"), Path("cascade_clip/README.md")
ELSEWHERE = re.compile(r"\b(?:DESIGN|ECOSYSTEM|STYLE)(?:\.md| section| \d)|\.\./shared/")
SECTION = r"\d+(?:\.\d+)?(?: [a-l](?=[,;:)]))?"
LIST = rf"({SECTION}(?:(?:, | and | to ){SECTION})*)"
CITED = {
    SPEC: re.compile(rf"\bSPEC(?:\.md)?,? (?:sections? )?{LIST}"),
    HOUSE: re.compile(rf"\bcascade_clip/README\.md`?,? (?:sections? )?{LIST}"),
}


def _files() -> Iterator[Path]:
    for folder in ("cascade_clip", "cli", "recipes", "tests"):
        for file in sorted((ROOT / folder).rglob("*")):
            if file.suffix in {".py", ".toml", ".md", ".jinja"} and file != Path(__file__):
                yield file
    yield from ROOT.glob("*.md")
    yield from (ROOT / ".github").rglob("*.md")


def _text(file: Path) -> str:
    """Text with citations that break over lines of a comment or docstring put back together."""
    return re.sub(r"\s*\n\s*#?\s*", " ", file.read_text(encoding="utf-8"))


@cache
def _sections(document: Path) -> frozenset[str]:
    """Sections that can be cited: "4" and "4.1" by headings, "3.6" an item and "14 f" a row of a table in a section."""
    found: set[str] = set()
    section = ""
    for line in (ROOT / document).read_text(encoding="utf-8").splitlines():
        if heading := re.match(r"#+ (\d+(?:\.\d+)?)\b", line):
            section = heading[1]
            found.add(section)
        elif item := re.match(r"(\d+)\. ", line):
            found.add(f"{section}.{item[1]}")
        elif row := re.match(r"\| ([a-l]) \|", line):
            found.add(f"{section} {row[1]}")
    return frozenset(found)


@pytest.mark.parametrize("document", CITED, ids=str)
def test_cited_sections_exist(document: Path):
    cited = [
        (section, file.relative_to(ROOT))
        for file in _files()
        for sections in CITED[document].findall(_text(file))
        for section in re.findall(SECTION, sections)
    ]
    assert cited
    assert [each for each in cited if each[0] not in _sections(document)] == []


def test_nothing_outside_the_repository_is_cited():
    assert [str(file.relative_to(ROOT)) for file in _files() if ELSEWHERE.search(_text(file))] == []
