"""The tours of docs/tour-*.md: their commands are run as they stand, in one shell, against a quickstart, and print what the
tour says they print. Ids and times are other ones in every run: they are compared by where each comes again.

`PLGW_TOUR=write` writes what the commands print into the tours, for when that is meant to change."""

import os
import re
import subprocess

import lab

VENV = lab.TOOLS / "venv" / "bin"
END = "==== end of the command ===="

# Patterns of values that differ from run to run.
CHANGING = re.compile(
    r"(?P<endpoint>vpce-[0-9a-f]{17}(?:-[a-z0-9]{8}(?=[.-]))?)|(?P<service>vpce-svc-[0-9a-f]{17})|(?P<vpc>vpc-[0-9a-f]{17})"
    r"|(?P<subnet>subnet-[0-9a-f]{17})|(?P<group>sg-[0-9a-f]{17})|(?P<rule>sgr-[0-9a-f]{17})"
    r"|(?P<interface>eni-[0-9a-f]{17})"
    r"|(?P<time>\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|\+00:00))|(?P<token>\b[0-9a-f]{64}\b)"
    r"|(?P<id>\b[0-9a-f]{24}\b)"
)


def setup():
    if not (VENV / "aws").exists():
        raise lab.Skip(f"{VENV / 'aws'} is missing: .ci/run installs it")
    lab.need("bash", "curl", "dig")


def steps(text):
    """The commands of the tour's console blocks, each with its output and its place in the text."""
    for block in re.finditer(r"```console\n(.*?)```", text, re.S):
        for step in re.finditer(r"^\$ (.*\n(?:> .*\n)*)((?:(?!\$ ).*\n)*)", block.group(1), re.M):
            command = re.sub(r"^> ", "", step.group(1), flags=re.M)
            yield command.rstrip("\n"), step.group(2), block.start(1) + step.start(2), block.start(1) + step.end(2)


class Shell:
    """One shell for all commands."""

    def __init__(self):
        environment = {
            "HOME": str(lab.work()),
            "LANG": "C.UTF-8",
            "PATH": f"{VENV}{os.pathsep}{os.environ['PATH']}",
        }
        self.process = subprocess.Popen(
            ["bash", "--norc"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            cwd=lab.work(), env=environment,
        )

    def run(self, command):
        self.process.stdin.write(f"{command}\necho '{END}'\n")
        self.process.stdin.flush()
        lines = []
        for line in self.process.stdout:
            if line.rstrip("\n").endswith(END):
                rest = line.rstrip("\n")[: -len(END)]
                return "".join(lines) + (rest + "\n" if rest else "")
            lines.append(line)
        raise AssertionError(f"the shell ended at {command}")


class Names:
    """Replaces values that change from run to run by names, numbered by first occurrence."""

    def __init__(self):
        self.known = {}

    def of(self, text):
        def name(match):
            kind = match.lastgroup
            if kind == "time":
                return "<time>"
            kinds = self.known.setdefault(kind, {})
            return f"<{kind} {kinds.setdefault(match.group(), len(kinds) + 1)}>"

        return CHANGING.sub(name, text)


def test_every_command_of_the_tour_prints_the_documented_output():
    """A23, A24, A26, A27, B10."""
    prints_what_it_says("tour-aws-atlas.md", 30)


def test_every_command_of_the_tour_of_the_clouds_prints_the_documented_output():
    """A30."""
    prints_what_it_says("tour-clouds.md", 15, "--clouds")


def prints_what_it_says(name, least, *args):
    """Runs a tour of `least` commands at least, against a quickstart with `args`."""
    tour = lab.ROOT / "docs" / name
    gateway = lab.quickstart("--state-in-memory", *args)
    text = tour.read_text()
    shell, printed, wrong = Shell(), [], []
    said, seen = Names(), Names()
    for command, expected, start, end in steps(text):
        output = shell.run(command)
        printed.append((start, end, output))
        wanted, got = said.of(expected), seen.of(output)
        if wanted != got:
            wrong.append(f"$ {command}\n---- wanted\n{wanted}---- got\n{got}")
    assert len(printed) >= least, f"only {len(printed)} commands"
    if os.environ.get("PLGW_TOUR") == "write":
        for start, end, output in reversed(printed):
            text = text[:start] + output + text[end:]
        tour.write_text(text)
        wrong = []
    assert not wrong, "\n\n".join(wrong[:3]) + f"\n\n{len(wrong)} commands print something else"
    assert gateway.stop() == 0, gateway.tail()


if __name__ == "__main__":
    lab.main(globals())
