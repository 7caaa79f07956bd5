"""The tests of docs/testing.md pass beside a quickstart and in a lab, and clients/python knows the API as it is described:
C3 to C5."""

import json
import os
import re
import sys

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
    lab.main(globals())
