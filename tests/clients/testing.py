"""The tests of docs/testing.md pass beside a quickstart and in a lab, and clients/python knows the API as it is described and is
typed; what a person sees on a terminal: C1, C3 to C5, C8."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios

import lab

PAGE = lab.ROOT / "docs/testing.md"
sys.path.insert(0, str(lab.ROOT / "clients/python"))
import plgw  # noqa: E402


def block(language):
    """The page's one block in a language."""
    (found,) = re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(), re.S)
    return found


def beside(*command):
    """Runs a command beside a quickstart with free ports."""
    environment = {**os.environ, "PYTHONPATH": str(lab.ROOT / "clients/python"), "PYTHONDONTWRITEBYTECODE": "1"}
    argv = (lab.PLGW, "quickstart", "--ports", "auto", "--state-in-memory", "--", *command)
    return lab.run(*argv, check=False, timeout=300, cwd=lab.work(), env=environment)


def test_every_route_of_the_python_client_is_in_the_apis_description():
    script = "import os, urllib.request as u; print(u.urlopen(os.environ['PLGW_ADMIN'] + '/openapi.json').read().decode())"
    paths = json.loads(beside(sys.executable, "-c", script).stdout)["paths"]
    unnamed = {(method.upper(), re.sub(r"{\w+}", "{}", path)) for path, methods in paths.items() for method in methods}
    wanted = {(method, re.sub(r"{\w+}", "{}", path)) for method, path in plgw.ROUTES.values()}
    assert wanted <= unnamed, wanted - unnamed


def test_the_pages_pytest_example_passes():
    (lab.work() / "test_page.py").write_text(block("python"))
    done = beside(sys.executable, "-m", "pytest", "-q", "-p", "plgw.pytest_plugin", "test_page.py")
    assert done.returncode == 0 and "3 passed" in done.stdout, done.stdout + done.stderr


SCRIPT = """
import plgw, sys
gateway = plgw.Gateway()
member, zone = "Cluster0/shard-00-00", "us-east-1a"
assert gateway.status()["version"] and gateway.flows() == [] and gateway.faults() == []
before = gateway.port(member)
assert gateway.move(member)["to"] == gateway.port(member) != before
assert gateway.move(member, 2000)["to"] == 2000
gateway.deregister(member)
gateway.register(member)
gateway.deregister(member)
assert gateway.add_fault("latency", delay="100ms", jitter="20ms", zone=zone)["delay"] == "100ms"
assert gateway.add_fault("refuse", target=member, lasts="10m")["for"] == "10m"
gateway.lose_zone(zone)
assert {fault["type"] for fault in gateway.faults()} == {"latency", "refuse", "zone-outage"}
gateway.remove_faults()
gateway.shift(zone, lasts="10m")
gateway.end_shift(zone)
gateway.shift("us-east-1b")
assert any(found["shift"] for found in gateway.zones())
gateway.step_down("Cluster0")
gateway.stop("Cluster0/shard-00-02")
try:
    gateway.add_fault("latency", zone=zone)
except plgw.PlgwError as error:
    assert (error.status, error.code) == (400, "bad_request") and "delay" in error.message, error
else:
    sys.exit("a fault without its delay is taken")
gateway.reset()
assert gateway.faults() == [] and not any(found["shift"] for found in gateway.zones()) and gateway.primary("Cluster0")
assert all(found["state"] != "DOWN" for found in gateway.standins())
assert next(found for found in gateway.targets() if found["id"] == member)["members"]
"""


def test_every_method_of_the_python_client_does_what_it_says():
    """C5."""
    done = beside(sys.executable, "-c", SCRIPT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_python_client_is_typed():
    """C5: by mypy, strictly."""
    argv = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", lab.work() / "mypy", "--python-version", "3.11", "plgw"]
    done = lab.run(*argv, check=False, cwd=lab.ROOT / "clients/python", timeout=300)
    assert done.returncode == 0 and "no issues found" in done.stdout, done.stdout + done.stderr


def on_terminal(*argv, answers="", until=None, **more):
    """What a command writes to a terminal of 80 columns and 24 lines, whose lines end with `\\r\\n`; `answers` are typed at once. With
    `until`, it is interrupted once it has written that twice."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    ends = {"stdin": theirs, "stdout": theirs, "stderr": theirs} | more
    process = subprocess.Popen([str(word) for word in argv], **ends, start_new_session=True)
    os.close(theirs)
    os.write(ours, answers.encode())
    said = ""
    try:
        while said.count(until or "\0") < 2:
            said += os.read(ours, 65536).decode()
        process.send_signal(signal.SIGINT)
    except OSError:
        # The last one that had it open has ended.
        pass
    finally:
        os.close(ours)
    return process.wait(timeout=lab.SOON), said


TABLES = ("status", "targets", "endpoints", "flows", "zone list", "fault list", "standin list", "limits", "events", "log-level", "gateways list")


def tables():
    """To be run beside a quickstart: its tables on a terminal, and flows that are followed."""
    operate = lambda line: lab.run(lab.PLGW, *line.split())  # noqa: E731
    operate("fault add latency --delay 100ms --jitter 20ms --share 0.5 --target Cluster0/shard-00-01 --zone us-east-1b --for 1h --name slow")
    operate("target move Cluster0/shard-00-00")
    for line in TABLES:
        code, said = on_terminal(lab.PLGW, *line.split())
        lines = re.sub(r"\x1b\[[0-9;]*m", "", said).splitlines()
        wide = [each for each in lines if len(each) > 80]
        assert code == 0 and len(lines) > 0 and wide == [], (line, code, wide)
    home = "\x1b[H"
    _, said = on_terminal(lab.PLGW, "flows", "--follow", until=home)
    first = said.removeprefix(home).partition(home)[0]
    assert said.startswith(home) and first.endswith("\x1b[J") and "\x1b[2J" not in said and first.count("\n") < 24, said
    with subprocess.Popen([lab.PLGW, "flows", "--follow", "--output", "json"], stdout=subprocess.PIPE, text=True) as following:
        answers = [json.loads(following.stdout.readline()) for _ in range(2)]
        following.kill()
    assert all(isinstance(answer["flows"], list) for answer in answers), answers


def test_tables_fit_on_a_terminal_of_80_columns_and_flows_are_followed_in_place():
    """C8."""
    done = beside(sys.executable, "-B", __file__, "tables")
    assert done.returncode == 0, done.stdout + done.stderr


def test_init_asks_on_a_terminal_and_its_answers_pass_the_check():
    """C1: questions are asked again until an answer fits; what is printed is the config alone."""
    printed = lab.work() / "asked.toml"
    answers = ["Cluster 0", "Sales", "azur", "gcp", "us-east-1", "us-east1", "51", "5", "7", "3", "10.0.0.0/25", "10.0.0.0/16", ""]
    with open(printed, "w") as out:
        code, said = on_terminal(lab.PLGW, "init", answers="".join(f"{answer}\n" for answer in answers), stdout=out)
    assert code == 0, said
    for question in ("The cluster's name [Cluster0]", "Cloud provider [aws]", "Region [us-east1]", "Nodes [3]", "Availability zones [2]"):
        assert question.replace("[us-east1]", "[us-central1]") in said, (question, said)
    done = lab.run(lab.PLGW, "check", printed)
    assert ": ok: 1 VPC, 1 endpoint, 1 cluster, 5 targets" in done.stdout, done.stdout
    text = printed.read_text()
    assert 'name = "Sales"' in text and text.count("us-east1-") == 5 and '"10.0.0.0/16"' in text, text
    code, said = on_terminal(lab.PLGW, "init", answers="\x04")
    assert code == 1 and "the questions were not answered" in said, said


def test_four_with_free_ports_start_at_once_and_run_side_by_side():
    """C3: started at the same moment, each with addresses of its own; a command that is killed gives the shell's exit code."""
    argv = [lab.PLGW, "quickstart", "--ports", "auto", "--state-in-memory", "--", "sh", "-c", "echo $PLGW_ADMIN $PLGW_DNS; read line; kill -KILL $$"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    all_four = [subprocess.Popen(argv, cwd=lab.work() / name, **pipes) for name in ("1", "2", "3", "4") if not (lab.work() / name).mkdir()]
    try:
        # Each prints when its command runs, so all run when all have printed.
        addresses = [process.stdout.readline().split() for process in all_four]
        said = [process.communicate("\n", timeout=lab.SOON)[1] for process in all_four]
        assert len({address for found in addresses for address in found}) == 8, (addresses, said)
        assert [process.returncode for process in all_four] == [128 + 9] * 4, said
    finally:
        for process in all_four:
            process.kill()


def test_the_commands_exit_code_is_passed_on():
    assert beside("sh", "-c", "exit 7").returncode == 7


def test_the_pages_go_example_passes_in_a_lab():
    lab.need("go")
    module = lab.work() / "page"
    module.mkdir()
    for name in ("go.mod", "go.sum"):
        (module / name).write_text((lab.ROOT / "tests/clients/writers/go" / name).read_text())
    (module / "page_test.go").write_text(block("go"))
    lab.run("go", "vet", "./...", cwd=module, timeout=300, env={**os.environ, "GOTOOLCHAIN": "local", "GOFLAGS": "-mod=mod"})
    lab.run("go", "test", "-c", "-o", "page", ".", cwd=module, timeout=300, env={**os.environ, "GOTOOLCHAIN": "local"})
    scenario = lab.ROOT / "config/scenarios/lab.toml"
    lab.run(lab.PLGW, "lab", "run", "--config", scenario, "--stand-ins", "--", module / "page", timeout=120)


def test_the_pages_junit_example_passes_in_a_lab():
    lab.need("javac", "keytool")
    libraries = lab.TOOLS / "java"
    if not list(libraries.glob("junit-platform-console-standalone-*.jar")):
        raise lab.Skip(f"{libraries} has no JUnit: .ci/run installs it")
    there = lab.work() / "junit"
    there.mkdir()
    (there / "WritesGoOnTest.java").write_text(block("java"))
    lab.run("javac", "-cp", f"{libraries}/*", "-d", there, there / "WritesGoOnTest.java")
    script = (
        'keytool -importcert -noprompt -file "$PLGW_CA" -keystore lab.p12 -storepass changeit && '
        f"exec java -Djavax.net.ssl.trustStore=lab.p12 -Djavax.net.ssl.trustStorePassword=changeit -cp '{there}:{libraries}/*' "
        "org.junit.platform.console.ConsoleLauncher execute --disable-banner --select-class WritesGoOnTest"
    )
    scenario = lab.ROOT / "config/scenarios/lab.toml"
    argv = (lab.PLGW, "lab", "run", "--config", scenario, "--stand-ins", "--", "sh", "-c", script)
    done = lab.run(*argv, timeout=120, cwd=there, check=False)
    assert done.returncode == 0 and "2 tests successful" in done.stdout, done.stdout + done.stderr


if __name__ == "__main__":
    if sys.argv[1:] == ["tables"]:
        tables()
    else:
        lab.main(globals())
