"""The commands of the operator's pages print what the pages say.

Every block of a page that begins with ```console is run, in order, in a directory as the page's reader would stand in, beside
a quickstart. `…` in a line stands for anything, `…` alone for any lines. A block below `<!-- not run: reason -->` is left out.
"""

import os
import re
import sys

import lab

sys.path.insert(0, str(lab.ROOT / "benches/peers"))
from driver import readme  # noqa: E402

# Each page with what it needs besides `plgw`.
PAGES = {"operating.md": ["dig", "curl", "jq"], "load.md": [], "real-servers.md": ["node"]}


def setup():
    lab.need(*sorted({tool for tools in PAGES.values() for tool in tools}))


def gateway():
    """A quickstart as it starts by itself, in a directory with the config files and `plgw` on the path."""
    yield lab.Gateway("quickstart")


def blocks(page):
    """(line, commands with their output) of each block that is to be run, and the number of those that are not."""
    lines = (lab.ROOT / "docs" / page).read_text().splitlines()
    found, left_out, skip, at = [], 0, False, 0
    while at < len(lines):
        if lines[at].startswith("<!-- not run: "):
            skip = True
        elif lines[at] == "```console":
            end = lines.index("```", at)
            if skip:
                left_out += 1
            else:
                found.append((at + 1, steps(lines[at + 1 : end])))
            skip, at = False, end
        elif lines[at].strip():
            skip = False
        at += 1
    return found, left_out


def steps(lines):
    """A block's commands, each with the lines that it prints."""
    found = []
    for line in lines:
        if line.startswith("$ "):
            found.append((line[2:], []))
        elif found and found[-1][0].endswith("\\") and not found[-1][1]:
            found[-1] = (found[-1][0] + "\n" + line, [])
        else:
            found[-1][1].append(line)
    return found


def pattern(lines):
    """What the printed text must look like."""
    parts = []
    for line in lines:
        if line.strip() == "…":
            parts.append(r"(?:.*\n)*?")
        else:
            parts.append(r"[^\n]*".join(re.escape(part) for part in line.rstrip().split("…")) + r" *\n")
    return re.compile("".join(parts) + r"\Z")


def check(page):
    there = lab.work()
    for name in ("config", "deploy", "docs"):
        if not (there / name).exists():
            (there / name).symlink_to(lab.ROOT / name)
    programs = there / "bin"
    programs.mkdir(exist_ok=True)
    if not (programs / "plgw").exists():
        (programs / "plgw").symlink_to(lab.PLGW)
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}", "COLUMNS": "100", "NO_COLOR": "1"}
    found, _ = blocks(page)
    assert found, f"{page} has nothing to run"
    wrong = []
    for line, block in found:
        for command, expected in block:
            def look(command=command, expected=expected):
                text = lab.run("sh", "-c", f"exec 2>&1\n{command}", check=False, env=environment, cwd=there).stdout
                assert pattern(expected).match(text), text
            # Health, and what a change brings about, may take a moment.
            try:
                lab.eventually(command, look, within=20)
            except AssertionError as error:
                said = "\n".join(expected)
                wrong.append(f"docs/{page}:{line}: $ {command}\nexpected\n{said}\nfound\n{error}")
    assert not wrong, "\n\n".join(wrong)


def test_the_operators_guide_shows_what_is_so(gateway):
    check("operating.md")


def test_the_page_for_load_testers_shows_what_is_so(gateway):
    check("load.md")


def test_the_page_about_real_servers_shows_what_is_so(gateway):
    check("real-servers.md")


def test_every_page_is_in_the_index_and_every_link_leads_somewhere():
    pages = [lab.ROOT / name for name in ("README.md", "CONTRIBUTING.md", "ARCHITECTURE.md", "deploy/README.md")]
    pages += sorted((lab.ROOT / "docs").glob("*.md"))
    index = (lab.ROOT / "docs/README.md").read_text()
    broken = [page.name for page in (lab.ROOT / "docs").glob("*.md") if page.name not in index and page.name != "README.md"]
    for page in pages:
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text()):
            if not (page.parent / link).exists():
                broken.append(f"{page.relative_to(lab.ROOT)}: {link}")
    assert not broken, broken


def test_the_page_about_speed_shows_the_newest_measurement():
    """No figure of it is typed: `benches/peers/run --render` writes it, from the newest result."""
    assert readme.shown(lab.ROOT) == readme.block(lab.ROOT), "benches/peers/run --render benches/results/NEWEST.json writes it"


def test_whoever_leaves_a_block_out_is_seen():
    """Few are: what needs root, a service manager or another machine."""
    counts = {page: blocks(page)[1] for page in PAGES}
    assert sum(counts.values()) <= 8, counts


if __name__ == "__main__":
    lab.main(globals())
