"""C7. The commands of the pages print the documented output.

Every block of a page that begins with ```console is run, in order, in a directory as the page's reader would stand in, beside
a quickstart or in a lab. `…` in a line stands for anything, `…` alone for any lines. `<!-- first: COMMAND -->` above a block runs
a command that the page does not show. A block below `<!-- not run: reason -->` is left out.
"""

import os
import re
import sys

import lab

sys.path.insert(0, str(lab.ROOT / "benches/peers"))
from driver import performance  # noqa: E402

# Pages that are run beside a quickstart, in this order; the README moves a port, which the others do not expect.
QUICKSTART = ["docs/operating.md", "docs/load.md", "docs/real-servers.md", "README.md"]
# Pages that are run in a lab, one after the other.
LAB = ["docs/lab.md", "docs/fidelity-nlb.md"]
# Pages with blocks that another test runs.
ELSEWHERE = {
    "docs/tour-aws-atlas.md": "tour.py", "docs/tour-clouds.md": "tour.py", "docs/experiments.md": "failover.py",
    "docs/fleet.md": "fleet.py",
}


def setup():
    lab.need("dig", "curl", "jq", "node", "nft", "nslookup")


def gateway():
    """A quickstart as it starts by itself, in a directory with the config files and `plgw` on the path."""
    yield lab.Gateway("quickstart")


def labs():
    """A separate directory for labs; labs left by a page are removed."""
    os.environ["PLGW_LAB_DIR"] = str(lab.work() / "labs")
    yield
    lab.run(lab.PLGW, "lab", "down", check=False)


def blocks(page):
    """(line, hidden command, commands with their output) of each block that is to be run, and the number of the others."""
    lines = (lab.ROOT / page).read_text().splitlines()
    found, left_out, skip, first, at = [], 0, False, None, 0
    while at < len(lines):
        if lines[at].startswith("<!-- not run: "):
            skip = True
        elif hidden := re.fullmatch(r"<!-- first: (.*) -->", lines[at]):
            first = hidden[1]
        elif lines[at].startswith("```"):
            end = lines.index("```", at + 1)
            if lines[at] == "```console" and skip:
                left_out += 1
            elif lines[at] == "```console":
                found.append((at + 1, first, steps(lines[at + 1 : end])))
            skip, first, at = False, None, end
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
        elif found and not found[-1][1] and (found[-1][0].endswith("\\") or found[-1][0].count("'") % 2):
            # It continues after a backslash or within quotes.
            found[-1] = (found[-1][0] + "\n" + line, [])
        else:
            found[-1][1].append(line)
    for _, expected in found:
        while expected and not expected[-1].strip():
            expected.pop()
    return found


def pattern(lines):
    """The pattern for the printed text."""
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
    path = f"{programs}:{lab.TOOLS}/venv/bin:{os.environ['PATH']}"
    environment = {**os.environ, "PATH": path, "COLUMNS": "100", "NO_COLOR": "1"}
    found, _ = blocks(page)
    assert found, f"{page} has nothing to run"
    wrong = []
    for line, first, block in found:
        if first:
            lab.run("sh", "-c", first, env=environment, cwd=there)
        for command, expected in block:
            def look(command=command, expected=expected):
                text = lab.run("sh", "-c", f"exec 2>&1\n{command}", check=False, env=environment, cwd=there).stdout
                # Blank lines at the end are the page's layout.
                text = text.rstrip() + "\n" if text.strip() else ""
                assert pattern(expected).match(text), text
            # Health and the effect of a change may take a moment.
            try:
                lab.eventually(command, look, within=20)
            except AssertionError as error:
                said = "\n".join(expected)
                wrong.append(f"{page}:{line}: $ {command}\nexpected\n{said}\nfound\n{error}")
    assert not wrong, "\n\n".join(wrong)


def test_commands_beside_a_quickstart_print_the_documented_output(gateway):
    for page in QUICKSTART:
        check(page)


def test_commands_in_a_lab_print_the_documented_output(labs):
    for page in LAB:
        check(page)


def test_every_console_block_is_run_or_has_a_reason():
    """Commands that install, need a service manager, or take minutes are left out."""
    pages = {str(path.relative_to(lab.ROOT)) for path in lab.ROOT.rglob("*.md") if "target" not in path.parts}
    run = {*QUICKSTART, *LAB, *ELSEWHERE}
    assert run <= pages, run - pages
    counts = {page: (len(blocks(page)[0]), blocks(page)[1]) for page in pages - set(ELSEWHERE)}
    unseen = {page: count for page, (count, _) in counts.items() if count and page not in run}
    assert not unseen, f"no test runs these blocks: {unseen}"
    left_out = {page: count for page, (_, count) in counts.items() if count}
    assert sum(left_out.values()) <= 8, left_out


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
    assert performance.shown(lab.ROOT) == performance.block(lab.ROOT), "benches/peers/run --render benches/results/NEWEST.json writes it"


if __name__ == "__main__":
    lab.main(globals())
