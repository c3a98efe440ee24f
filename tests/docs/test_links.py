"""Every link of the documents leads to a file, and every anchor to a heading; the site's menu names every page."""

import re
from pathlib import Path

import pytest


ROOT = Path(__file__).parents[2]
PAGES = [*(ROOT / "docs").rglob("*.md"), *ROOT.glob("*.md"), *(ROOT / "assets").rglob("*.md")]
LINK = re.compile(r"\]\((?!https?://|mailto:)([^)\s]*)\)")
FENCE = re.compile(r"^( *)```.*?^\1```", flags=re.M | re.S)


def anchors(text: str) -> set[str]:
    """Of the headings, as both Markdown's `toc` and forges make them."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), flags=re.M)
    return {re.sub(r"\s+", "-", re.sub(r"[^\w\s-]", "", heading.lower()).strip()) for heading in headings}


def broken(path: Path) -> list[str]:
    text, found = path.read_text(encoding="utf-8"), []
    for link in LINK.findall(FENCE.sub("", text)):
        target, _, anchor = link.partition("#")
        file = (path.parent / target).resolve() if target else path
        headed = not anchor or file.suffix != ".md" or (file.exists() and anchor in anchors(file.read_text("utf-8")))
        if not (file.exists() and headed):
            found.append(link)
    return found


@pytest.mark.parametrize("path", PAGES, ids=[str(path.relative_to(ROOT)) for path in PAGES])
def test_links_lead_somewhere(path):
    assert not broken(path)


def test_a_broken_link_is_found(tmp_path):
    page, other = tmp_path / "page.md", tmp_path / "other.md"
    other.write_text("# One two\n\n```\n# Three\n```\n")
    page.write_text("[a](other.md) [b](other.md#one-two) [c](missing.md) [d](other.md#three) [e](#none)\n")
    assert broken(page) == ["missing.md", "other.md#three", "#none"]


def test_the_menu_names_every_page():
    named = set(re.findall(r": ([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), flags=re.M))
    assert {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")} <= named
