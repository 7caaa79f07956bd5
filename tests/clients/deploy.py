"""The files in `deploy/` do what they say, as far as that can be shown without systemd, a container engine or a cluster.

The release is packed, its Debian package installed and purged in a copy of the machine's root; systemd's own checkers read the
unit, and strace shows that the gateway lives within its system calls; the steps of the Containerfile are run by hand and what they make runs as the image would; schemas judge the
compose file and the Kubernetes manifests, and a gateway runs with the configs in them; the nftables rules are loaded and tried
between three hosts.
"""

import copy
import ipaddress
import json
import os
import pathlib
import re
import shutil
import socket
import stat
import subprocess
import sys

import lab

DEPLOY = lab.ROOT / "deploy"


def setup():
    lab.need("systemd-analyze", "nft", "nsenter", "openssl", "strace", "node")
    try:
        import compose_spec  # noqa: F401
        import kubernetes_validate  # noqa: F401
        import yaml  # noqa: F401
    except ImportError as error:
        raise lab.Skip(f"{error}: run it with {lab.TOOLS}/venv/bin/python, which .ci/run makes") from error


# ---- systemd --------------------------------------------------------------------------------------------------------


def unit():
    """The unit's keys, each with all of its values."""
    keys = {}
    for line in (DEPLOY / "systemd/plgw.service").read_text().splitlines():
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            keys.setdefault(key, []).append(value)
    return keys


def test_systemd_finds_no_mistake_in_the_unit():
    copied = lab.work() / "plgw.service"
    copied.write_text((DEPLOY / "systemd/plgw.service").read_text().replace("/usr/bin/plgw", str(lab.PLGW)))
    done = lab.run("systemd-analyze", "verify", "--man=no", copied)
    assert done.stderr == "" and done.stdout == "", (done.stdout, done.stderr)
    # It can find one.
    copied.write_text(copied.read_text().replace("ProtectHome=yes", "ProtectHome=perhaps"))
    done = lab.run("systemd-analyze", "verify", "--man=no", copied, check=False)
    assert "perhaps" in done.stderr, done.stderr


def test_the_unit_exposes_little():
    """2.0 of 10 at most; the rest is what a gateway needs: sockets, the host's network, a port below 1024."""
    argv = ["systemd-analyze", "security", "--offline=yes", "--threshold=20"]
    done = lab.run(*argv, DEPLOY / "systemd/plgw.service", check=False)
    assert done.returncode == 0, done.stdout
    assert re.search(r"Overall exposure level for plgw.service: 1\.\d OK", done.stdout), done.stdout[-200:]


def test_the_gateway_lives_within_the_units_system_calls():
    """Serves, reloads, carries a flow, drains: every call that strace sees is one that the unit allows."""
    allowed = set()
    for line in unit()["SystemCallFilter"]:
        deny = line.startswith("~")
        for group in line.lstrip("~").split():
            allowed = allowed - calls(group) if deny else allowed | calls(group)
    config = lab.work() / "traced.toml"
    config.write_text((DEPLOY / "compose/gateway.toml").read_text().replace("/var/lib/plgw", str(lab.work() / "traced")))
    lab.own_addresses("10.0.0.2", "10.0.30.194", "10.1.0.4", "10.1.0.11")
    trace = lab.work() / "trace"
    try:
        with socket.create_server(("10.1.0.11", 27017)) as target, open(lab.work() / "traced.log", "w") as log:
            argv = ["strace", "-f", "-qq", "-o", trace, lab.PLGW, "serve", "--config", config]
            process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
            try:
                lab.eventually("it is ready", lambda: is_ready(lab.METRICS))
                with socket.create_connection(("10.0.30.194", 1024)) as flow:
                    flow.sendall(b"x" * (1 << 20))
                    taken = accepted(target)
                    assert taken.recv(1)
                    config.write_text(config.read_text().replace('"20s"', '"5s"'))
                    lab.eventually("it was reloaded", lambda: counted("plgw_reloads_total", 'outcome="applied"'))
                    lab.run(lab.PLGW, "log-level", "debug")
                    taken.close()
                # strace does not forward the signal that ends it, so the gateway gets its own.
                gateway = int(pathlib.Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
                os.kill(gateway, 15)
                assert process.wait(timeout=lab.SOON) == 0, (lab.work() / "traced.log").read_text()
            finally:
                if process.poll() is None:
                    process.kill()
    finally:
        no_addresses("10.0.0.2", "10.0.30.194", "10.1.0.4", "10.1.0.11")
    # 1234 openat(AT_FDCWD, …  and  1234 <... epoll_wait resumed>
    used = set(re.findall(r"^\d+ +(?:<\.\.\. )?([a-z0-9_]+)(?:\(| resumed)", trace.read_text(errors="replace"), re.M))
    assert {"accept4", "listen", "sendto", "bind"} <= used, sorted(used)
    # The manager makes the calls that start a program, before the filter is set.
    assert used - allowed - {"execve"} == set(), sorted(used - allowed)


def calls(name):
    """The system calls of a group, its groups included."""
    if not name.startswith("@"):
        return {name}
    found = set()
    for line in lab.run("systemd-analyze", "--no-pager", "syscall-filter", name).stdout.splitlines()[1:]:
        if line.strip() and not line.strip().startswith("#"):
            found |= calls(line.strip())
    return found


def test_user_and_directories_are_made_as_the_unit_expects_them():
    root = lab.work() / "host"
    for directory in ("etc", "var/lib", "usr/lib/sysusers.d", "usr/lib/tmpfiles.d", "etc/plgw"):
        (root / directory).mkdir(parents=True)
    (root / "etc/plgw/environment").write_text("PLGW_ADMIN_TOKEN=x\n")
    shutil.copy(DEPLOY / "systemd/plgw.sysusers", root / "usr/lib/sysusers.d/plgw.conf")
    shutil.copy(DEPLOY / "systemd/plgw.tmpfiles", root / "usr/lib/tmpfiles.d/plgw.conf")
    lab.run("systemd-sysusers", f"--root={root}")
    passwd = (root / "etc/passwd").read_text()
    user = re.search(r"^plgw:x:(\d+):(\d+):privatelink-gateway:/var/lib/plgw:/usr/sbin/nologin$", passwd, re.M)
    assert user, passwd
    lab.run("systemd-tmpfiles", f"--root={root}", "--create")
    state, keys = (root / "var/lib/plgw").stat(), (root / "etc/plgw/environment").stat()
    assert (state.st_uid, state.st_gid, stat.S_IMODE(state.st_mode)) == (int(user[1]), int(user[2]), 0o750), state
    assert (keys.st_uid, stat.S_IMODE(keys.st_mode)) == (0, 0o600), keys
    assert unit()["User"] == unit()["Group"] == ["plgw"] and unit()["StateDirectory"] == ["plgw"]
    done = lab.run(lab.PLGW, "check", "--config", DEPLOY / "systemd/gateway.toml")
    assert ": ok: " in done.stdout, done.stdout


# ---- the release ----------------------------------------------------------------------------------------------------


def test_the_release_says_which_tools_it_lacks_and_how_to_get_them():
    few = lab.work() / "few"
    few.mkdir()
    for tool in ("bash", "dirname", "mkdir", "realpath", "sort", "uname"):
        (few / tool).symlink_to(shutil.which(tool))

    def lacks(*machines):
        argv = [few / "bash", DEPLOY / "release", lab.work() / "lacking", *machines]
        done = lab.run(*argv, check=False, env={"PATH": str(few)})
        assert done.returncode == 69 and done.stdout == "", done
        return dict(re.findall(r"^deploy/release: missing: (\S+) \((.*)\)$", done.stderr, re.M))

    packing = {"cargo", "cargo-cyclonedx", "cargo-deb", "jq", "umoci"}
    assert lacks(f"{os.uname().machine}={lab.PLGW}").keys() == packing
    building = lacks()
    assert building.keys() >= packing | {"cargo-zigbuild", "protoc", "readelf"}
    assert building["umoci"] == "apt-get install umoci" and building["cargo-zigbuild"] == "pip install cargo-zigbuild ziglang"
    for arguments, said in (((), "usage: "), ((lab.work(), "riscv64"), "no release for `riscv64`")):
        done = lab.run(DEPLOY / "release", *arguments, check=False)
        assert done.returncode == 64 and said in done.stderr, done


def test_every_file_of_the_debian_package_is_there_and_fits_the_unit():
    import tomllib

    deb = tomllib.loads((lab.ROOT / "Cargo.toml").read_text())["package"]["metadata"]["deb"]
    targets = set()
    for source, to, _ in deb["assets"]:
        # Installed by `deploy/release`.
        made = source.startswith("target/release/")
        assert made or [path for path in lab.ROOT.glob(source) if path.is_file()], source
        targets.add("/" + to + (source.rpartition("/")[2] if to.endswith("/") else ""))
    program, _, config = unit()["ExecStart"][0].partition(" serve --config ")
    assert {program, config, "/usr/lib/systemd/system/plgw.service", "/usr/lib/sysusers.d/plgw.conf"} <= targets, targets
    assert deb["conf-files"] == [config]
    for script in sorted((lab.ROOT / deb["maintainer-scripts"]).iterdir()):
        lab.run("sh", "-n", script)
        assert os.access(script, os.X_OK), script


def release():
    """The output of `deploy/release` for the existing program, as both machines: nothing is built. Packing tools that take minutes to
    build have stand-ins in packers/, used where they are not installed."""
    lab.need("cargo", "dpkg-deb", "jq", "strip", "umoci")
    # As the profile `dist` leaves it: a third of the size.
    program = lab.work() / "program"
    lab.run("strip", "-o", program, lab.PLGW)
    path = lab.work() / "packers"
    path.mkdir()
    for tool in (lab.ROOT / "tests/clients/packers").iterdir():
        if not shutil.which(tool.name):
            print(f"{tool.name} is not installed: its stand-in packs")
            (path / tool.name).symlink_to(tool)
    out = lab.work() / "release"
    argv = [DEPLOY / "release", out, f"x86_64={program}", f"aarch64={program}"]
    environment = {**os.environ, "CARGO_NET_OFFLINE": "true", "PATH": f"{path}:{os.environ['PATH']}"}
    lab.run(*argv, env=environment, timeout=600)
    yield out, program


def test_a_release_has_archives_packages_and_an_image_of_both_machines(release):
    """C9."""
    import tarfile

    out, program = release
    version = lab.run(lab.PLGW, "--version").stdout.split()[1]
    lab.run("sha256sum", "--check", "--strict", "SHA256SUMS", cwd=out)
    names = {line.split()[1] for line in (out / "SHA256SUMS").read_text().splitlines()}
    assert names | {"SHA256SUMS"} == {path.name for path in out.iterdir()}, names
    oci = lab.work() / "oci"
    oci.mkdir()
    lab.run("tar", "-xf", out / f"plgw-{version}.oci.tar", cwd=oci)

    def blob(descriptor):
        return oci / "blobs" / descriptor["digest"].replace(":", "/")

    (named,) = json.loads((oci / "index.json").read_text())["manifests"]
    assert named["annotations"]["org.opencontainers.image.ref.name"] == version
    manifests = {each["platform"]["architecture"]: each for each in json.loads(blob(named).read_text())["manifests"]}
    assert manifests.keys() == {"amd64", "arm64"}
    program, keys = program.read_bytes(), dict(stages()[1])
    for machine, architecture in (("x86_64", "amd64"), ("aarch64", "arm64")):
        name = f"plgw-{version}-{machine}"
        sbom = (out / f"{name}.cdx.json").read_bytes()
        components = {each["name"] for each in json.loads(sbom)["components"]}
        assert {"tokio", "etcd-client"} <= components and "criterion" not in components and str(lab.ROOT).encode() not in sbom
        with tarfile.open(out / f"{name}.tar.gz") as archive:
            assert archive.extractfile(f"{name}/bin/plgw").read() == program
            assert archive.extractfile(f"{name}/share/doc/plgw/plgw.cdx.json").read() == sbom
            inside = {path.removeprefix(name) for path in archive.getnames()}
        installed = {"/share/man/man1/plgw-serve.1.gz", "/share/bash-completion/completions/plgw", "/share/doc/plgw/copyright"}
        assert installed <= inside, inside
        package = out / f"plgw_{version}_{architecture}.deb"
        fields = lab.run("dpkg-deb", "--show", "--showformat", "${Version} ${Architecture}", package).stdout
        assert fields == f"{version} {architecture}", fields
        root = lab.work() / architecture
        lab.run("dpkg-deb", "--extract", package, root)
        assert (root / "usr/bin/plgw").read_bytes() == program and (root / "etc/plgw/gateway.toml").exists()
        assert (root / "usr/share/doc/plgw/plgw.cdx.json").read_bytes() == sbom
        assert all((root / f"usr{path}").exists() for path in installed | {"/share/doc/plgw/config/scenarios/lab.toml"})
        manifest = json.loads(blob(manifests[architecture]).read_text())
        config = json.loads(blob(manifest["config"]).read_text())
        assert (config["os"], config["architecture"]) == ("linux", architecture)
        runs = config["config"]
        assert (runs["Entrypoint"], runs["Cmd"]) == (json.loads(keys["ENTRYPOINT"]), json.loads(keys["CMD"]))
        assert (runs["User"], runs["WorkingDir"], runs["StopSignal"]) == (keys["USER"], keys["WORKDIR"], keys["STOPSIGNAL"])
        assert list(runs["Volumes"]) == [keys["VOLUME"]] and list(runs["ExposedPorts"]) == [keys["EXPOSE"]]
        with tarfile.open(blob(manifest["layers"][0])) as layer:
            assert layer.extractfile("plgw").read() == program and layer.getmember("var/lib/plgw").uid == 65532
            assert layer.getmember("plgw").uid == 0 and layer.getmember("plgw").mode & 0o777 == 0o755


def host_root():
    """A copy of this machine's root, to install into: what is written there is kept in memory."""
    memory, root = lab.work() / "memory", lab.work() / "host-root"
    for directory in (memory, root):
        directory.mkdir()
    lab.run("mount", "-t", "tmpfs", "tmpfs", memory)
    for directory in ("upper", "work"):
        (memory / directory).mkdir()
    done = lab.run("mount", "-t", "overlay", "overlay", "-o", f"lowerdir=/,upperdir={memory}/upper,workdir={memory}/work", root, check=False)
    if done.returncode:
        raise lab.Skip(f"no overlay can be mounted: {done.stderr.strip()}")
    lab.run("mount", "--bind", "/proc", root / "proc")
    yield root
    lab.run("umount", root / "proc")
    lab.run("umount", root)
    lab.run("umount", memory)


def test_the_debian_package_is_installed_upgraded_removed_and_purged(release, host_root):
    """C9: with the machine's own dpkg, in a copy of its root."""
    architecture = lab.run("dpkg", "--print-architecture").stdout.strip()
    (package,) = release[0].glob(f"plgw_*_{architecture}.deb")
    version = lab.run(lab.PLGW, "--version").stdout.split()[1]

    def inside(*argv, check=True):
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C"}
        return lab.run("chroot", host_root, *argv, check=check, env=environment)

    def state():
        return inside("dpkg-query", "--show", "--showformat", "${db:Status-Status} ${Version}", "plgw").stdout

    # Other packages of this machine are not tested: no index of all manual pages, no waiting for the disk.
    dpkg = ("dpkg", "--force-unsafe-io")
    (host_root / "var/lib/man-db/auto-update").unlink(missing_ok=True)
    shutil.copy(package, host_root / "plgw.deb")
    inside(*dpkg, "--install", "/plgw.deb")
    assert state() == f"installed {version}"
    assert inside("plgw", "--version").stdout == lab.run(lab.PLGW, "--version").stdout
    assert ": ok: " in inside("plgw", "check", "/etc/plgw/gateway.toml").stdout
    assert inside("sh", "-c", "plgw check /usr/share/doc/plgw/config/scenarios/*.toml").stdout.count(": ok: ") > 5
    user = inside("getent", "passwd", "plgw").stdout
    assert user.endswith(":privatelink-gateway:/var/lib/plgw:/usr/sbin/nologin\n"), user
    assert inside("stat", "--format", "%U %a", "/var/lib/plgw").stdout == "plgw 750\n"
    # A config of the administrator's and what the gateway saved outlive an upgrade and a removal.
    config, saved = host_root / "etc/plgw/gateway.toml", host_root / "var/lib/plgw/state.json"
    config.write_text("workers = 1\n")
    saved.write_text("{}")
    (host_root / "etc/plgw/environment").write_text("PLGW_ADMIN_TOKEN=x\n")
    unpacked = lab.work() / "unpacked"
    lab.run("dpkg-deb", "--raw-extract", package, unpacked)
    control = unpacked / "DEBIAN/control"
    control.write_text(control.read_text().replace(f"Version: {version}", f"Version: {version}+1"))
    lab.run("dpkg-deb", "--root-owner-group", "-Znone", "--build", unpacked, host_root / "newer.deb")
    inside(*dpkg, "--install", "/newer.deb")
    assert state() == f"installed {version}+1" and config.read_text() == "workers = 1\n" and saved.exists()
    inside(*dpkg, "--remove", "plgw")
    assert state() == f"config-files {version}+1" and config.exists() and saved.exists() and not (host_root / "usr/bin/plgw").exists()
    inside(*dpkg, "--purge", "plgw")
    left = [path for path in ("etc/plgw", "var/lib/plgw", "var/log/plgw", "usr/share/doc/plgw") if (host_root / path).exists()]
    assert left == [], left
    assert inside("dpkg-query", "--show", "plgw", check=False).returncode == 1


# ---- container ------------------------------------------------------------------------------------------------------


def stages():
    """The Containerfile's stages: lists of (instruction, rest)."""
    text = (DEPLOY / "container/Containerfile").read_text()
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    found = []
    for line in lines:
        word, _, rest = line.partition(" ")
        if word == "FROM":
            found.append([])
        found[-1].append((word, rest))
    return found


def image():
    """The root of the image, made by the Containerfile's own steps, in a directory."""
    lab.need("cargo", "rustc")
    source, root = lab.work() / "src", lab.work() / "rootfs"
    source.mkdir()
    # One directory for every run, so that only what changed is built again; and a profile that builds fast.
    built = lab.TARGET / "container"
    (source / "target").symlink_to(built)
    environment = {
        **os.environ,
        "CARGO_TARGET_DIR": str(built),
        "CARGO_NET_OFFLINE": "true",
        "CARGO_PROFILE_DIST_LTO": "off",
        "CARGO_PROFILE_DIST_OPT_LEVEL": "0",
        "CARGO_PROFILE_DIST_CODEGEN_UNITS": "64",
        "CARGO_PROFILE_DIST_DEBUG": "0",
        # Without etcd: its client's build doubles the time.
        "FEATURES": "",
    }
    built.mkdir(exist_ok=True)
    ignored = (DEPLOY / "container/Containerfile.dockerignore").read_text().splitlines()
    build, _ = stages()
    for word, rest in build:
        if word == "COPY":
            *names, to = rest.split()
            for name in names:
                # Files in the ignore file are not available for copying.
                assert any(name == line[1:] or name.startswith(line[1:] + "/") for line in ignored if line[:1] == "!"), name
                there = source / to / pathlib.Path(name).name if to.endswith("/") else source / to
                there.parent.mkdir(parents=True, exist_ok=True)
                if (lab.ROOT / name).is_dir():
                    shutil.copytree(lab.ROOT / name, there, ignore=shutil.ignore_patterns("__pycache__"))
                else:
                    shutil.copy(lab.ROOT / name, there)
        elif word == "ENV":
            key, _, value = rest.partition("=")
            environment[key] = value.strip('"')
        elif word == "RUN":
            lab.run("sh", "-euc", rest.replace("/rootfs", str(root)), cwd=source, env=environment, timeout=560)
    yield root


def test_the_image_has_only_a_static_program_and_its_config(image):
    files = sorted(str(path.relative_to(image)) for path in image.rglob("*") if path.is_file())
    assert files == ["etc/plgw/gateway.toml", "plgw"], files
    program = (image / "plgw").read_bytes()
    assert program[:4] == b"\x7fELF"
    # A program header of type 3, PT_INTERP, would name a loader that is not there.
    start, size, count = (int.from_bytes(program[at : at + n], "little") for at, n in ((32, 8), (54, 2), (56, 2)))
    headers = {int.from_bytes(program[start + n * size : start + n * size + 4], "little") for n in range(count)}
    assert 1 in headers and 3 not in headers, headers
    assert (image / "var/lib/plgw").stat().st_uid == 65532


def test_the_image_runs_without_root_on_a_read_only_root_and_its_health_check_works(image):
    _, last = stages()
    keys = dict(last)
    uid, gid = map(int, keys["USER"].split(":"))
    lab.run("mount", "--bind", image, image)
    lab.run("mount", "-o", "remount,bind,ro", image)
    state = keys["VOLUME"].strip().lstrip("/")
    lab.run("mount", "-t", "tmpfs", "-o", f"uid={uid},gid={gid},mode=0750", "tmpfs", image / state)

    def inside():
        os.chroot(image)
        os.chdir(keys["WORKDIR"])
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)

    def start(argv):
        return subprocess.Popen(argv, preexec_fn=inside, env={}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    check = json.loads(keys["HEALTHCHECK"].partition("CMD ")[2])
    entry = json.loads(keys["ENTRYPOINT"])
    try:
        process = start(check)
        assert process.communicate(timeout=lab.SOON) and process.returncode != 0, "nothing runs yet"
        gateway = start(entry + json.loads(keys["CMD"]))
        try:
            lab.eventually("it is ready", lambda: is_ready(("127.0.0.1", 9464)))
            process = start(check)
            said, _ = process.communicate(timeout=lab.SOON)
            assert (process.returncode, said) == (0, ""), said
            status = pathlib.Path(f"/proc/{gateway.pid}/status").read_text()
            assert f"\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n" in status and "\nCapEff:\t0000000000000000\n" in status, status
            # The state is in the volume.
            assert (image / state / "state.json").stat().st_uid == uid
            assert keys["STOPSIGNAL"] == "SIGTERM"
            gateway.terminate()
            said, _ = gateway.communicate(timeout=lab.SOON)
            assert gateway.returncode == 0, said
        finally:
            if gateway.poll() is None:
                gateway.kill()
                gateway.wait()
    finally:
        lab.run("umount", image / state)
        lab.run("umount", image)


# ---- compose --------------------------------------------------------------------------------------------------------


def compose():
    import yaml

    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def test_the_compose_file_is_valid_by_the_specification():
    import compose_spec

    file = compose()
    read = compose_spec.PyCompose.from_json(json.dumps(file))
    assert {"gateway", "mongo-0", "mongo-1", "mongo-2", "prometheus", "grafana"} <= set(read.service_names())
    for key, value in (("stop_grace", "40s"), ("stop_grace_period", "soon"), ("read_only", "perhaps")):
        wrong = copy.deepcopy(file)
        wrong["services"]["gateway"][key] = value
        try:
            compose_spec.PyCompose.from_json(json.dumps(wrong))
        except ValueError:
            continue
        raise AssertionError(f"{key}: {value} is let through")


def test_the_compose_file_and_the_gateways_config_agree():
    import tomllib

    file, config = compose(), tomllib.loads((DEPLOY / "compose/gateway.toml").read_text())
    services = file["services"]
    gateway = services["gateway"]
    endpoint = config["interface_endpoint"][0]["address"][0]["ip"]
    assert gateway["networks"]["vpc"]["ipv4_address"] == endpoint
    resolver = gateway["networks"]["resolver"]["ipv4_address"]
    assert services["client"]["dns"] == [resolver] and config["dns"]["listen"] == [f"{resolver}:53"]
    assert {"vpc", "resolver"} == set(services["client"]["networks"])
    assert [gateway["networks"]["service"]["ipv4_address"]] == config["project"][0]["endpoint_service"][0]["source_addresses"]
    nodes = [node["address"] for node in config["project"][0]["cluster"][0]["node"]]
    assert nodes == [f'{services[f"mongo-{n}"]["networks"]["service"]["ipv4_address"]}:27017' for n in range(3)]
    subnets = {name: network["ipam"]["config"][0]["subnet"] for name, network in file["networks"].items()}
    vpc = ipaddress.ip_network(config["vpc"][0]["cidrs"][0])
    assert all(ipaddress.ip_network(subnets[name]).subnet_of(vpc) for name in ("vpc", "resolver")), subnets
    assert subnets["service"] == config["project"][0]["endpoint_service"][0]["cidrs"][0]
    assert not ipaddress.ip_network(subnets["service"]).overlaps(vpc)
    assert file["networks"]["service"]["internal"] is True
    name = config["project"][0]["cluster"][0]["set_name"]
    assert all(f"--replSet={name}" in services[f"mongo-{n}"]["command"] for n in range(3))
    # No server of the service's side has a foot in the VPC.
    assert all("vpc" not in services[name]["networks"] for name in ("mongo-0", "mongo-1", "mongo-2", "replica-set"))
    assert seconds(gateway["stop_grace_period"]) > seconds(config["shutdown_grace"]) + 5
    assert gateway["read_only"] is True and gateway["cap_drop"] == ["ALL"]
    made = {"./compose/tls/ca.pem", *(f"./compose/tls/mongo-{n}.pem" for n in range(3))}
    for service in services.values():
        for volume in service.get("volumes", []):
            source = volume.partition(":")[0]
            known = source in file["volumes"] or source in made or (DEPLOY / source).exists()
            assert known, f"{source} is neither a volume nor there"
    done = lab.run(lab.PLGW, "check", "--config", DEPLOY / "compose/gateway.toml")
    assert "gateway.toml: ok: 1 VPC, 1 endpoint, 1 cluster, 3 targets, 3 listeners" in done.stdout, done.stdout


def test_prometheus_and_grafana_find_in_their_containers_what_their_files_name():
    import yaml

    services = compose()["services"]
    # They share the gateway's network, where its metrics are on loopback, the default.
    assert services["prometheus"]["network_mode"] == services["grafana"]["network_mode"] == "service:gateway"
    mounted = dict(reversed(volume.split(":")[:2]) for volume in services["prometheus"]["volumes"])
    scrape = yaml.safe_load((DEPLOY / mounted["/etc/prometheus"] / "prometheus.yml").read_text())
    assert [each["targets"] for each in scrape["scrape_configs"][0]["static_configs"]] == [["127.0.0.1:9464"]]
    assert all((DEPLOY / mounted["/etc/prometheus"] / name).exists() for name in scrape["rule_files"]), scrape
    mounted = dict(reversed(volume.split(":")[:2]) for volume in services["grafana"]["volumes"])
    provisioning = DEPLOY / mounted["/etc/grafana/provisioning"]
    for file in (provisioning / "dashboards").glob("*.yml"):
        for provider in yaml.safe_load(file.read_text())["providers"]:
            dashboards = DEPLOY / mounted[provider["options"]["path"]]
            assert list(dashboards.glob("*.json")), provider
    sources = [source for file in (provisioning / "datasources").glob("*.yml") for source in yaml.safe_load(file.read_text())["datasources"]]
    wanted = {re.search(r"\$\{(\w+)\}", source["url"])[1] for source in sources if "${" in source["url"]}
    assert wanted <= services["grafana"]["environment"].keys(), wanted
    listens = [option.partition("=")[2] for option in services["prometheus"]["command"] if "listen-address" in option]
    assert services["grafana"]["environment"]["PROMETHEUS_URL"].removeprefix("http://") in listens


def test_the_horizons_of_the_compose_files_set_are_those_of_its_plan():
    state = lab.work() / "none"
    argv = [lab.PLGW, "plan", "--config", DEPLOY / "compose/gateway.toml", "--state", state, "--horizons"]
    assert lab.run(*argv).stdout == (DEPLOY / "compose/horizons.js").read_text()


# A simulated server for the scripts: it stores the set's config and refuses what a server refuses. `rs` is mongosh's own
# word; without a connection it may be another.
SET = """
let conf = null, reconfigured = 0;
const keys = of => JSON.stringify(Object.keys(of).sort());
rs = {
  initiate: c => { if (conf) throw Object.assign(new Error("already"), { codeName: "AlreadyInitialized" }); conf = c; },
  hello: () => ({ isWritablePrimary: conf !== null }),
  conf: () => JSON.parse(JSON.stringify(conf)),
  reconfig: c => {
    for (const m of c.members) {
      if (keys(m.horizons) !== keys(c.members[0].horizons)) throw new Error("horizons differ between members");
      const hosts = Object.values(m.horizons).map(h => h.split(":")[0]);
      if (new Set(hosts).size !== hosts.length) throw new Error("two horizons of a member share a host");
    }
    const all = c.members.flatMap(m => Object.values(m.horizons));
    if (new Set(all).size !== all.length) throw new Error("two members share an address");
    conf = c; reconfigured += 1; return { ok: 1 };
  },
};
load("INIT/replica-set.js");
load("INIT/replica-set.js");
print(JSON.stringify({ conf, reconfigured }));
"""


def test_mongosh_makes_the_set_once_and_sets_its_horizons_each_time():
    shell = lab.node_modules() / ".bin" / "mongosh"
    there = lab.work() / "init"
    there.mkdir()
    (there / ".mongodb/mongosh").mkdir(parents=True)
    (there / ".mongodb/mongosh/config").write_text(json.dumps({"enableTelemetry": False, "updateURL": ""}))
    for name in ("replica-set.js", "horizons.js"):
        text = (DEPLOY / "compose" / name).read_text()
        (there / name).write_text(text.replace("/init/", f"{there}/"))
    (there / "set.js").write_text(SET.replace("INIT", str(there)))
    environment = {**os.environ, "HOME": str(there), "MONGOSH_FORCE_DISABLE_TELEMETRY_FOR_TESTING": "1"}
    done = lab.run(shell, "--nodb", "--norc", "--quiet", there / "set.js", env=environment, timeout=180)
    seen = json.loads(done.stdout)
    host = "pl-0-us-east-1-k45tj.mongodb.net"
    expected = [(f"10.1.0.{11 + n}:27017", {"pl-0": f"{host}:{1024 + n}"}) for n in range(3)]
    assert [(member["host"], member["horizons"]) for member in seen["conf"]["members"]] == expected, seen
    assert seen["reconfigured"] == 2


def test_the_servers_certificates_have_the_names_that_horizons_are_chosen_by():
    there = lab.work() / "compose"
    there.mkdir()
    script = shutil.copy(DEPLOY / "compose/certificates.sh", there)
    lab.run("sh", script)
    for n in range(3):
        file = there / f"tls/mongo-{n}.pem"
        lab.run("openssl", "verify", "-CAfile", there / "tls/ca.pem", "-verify_hostname", "pl-0-us-east-1-k45tj.mongodb.net", file)
        lab.run("openssl", "verify", "-CAfile", there / "tls/ca.pem", "-verify_ip", f"10.1.0.{11 + n}", file)
        assert "PRIVATE KEY" in file.read_text()
    before = (there / "tls/mongo-0.pem").read_text()
    lab.run("sh", script)
    assert (there / "tls/mongo-0.pem").read_text() == before, "what is there stays"


# ---- Kubernetes -----------------------------------------------------------------------------------------------------


def manifests():
    """All objects of deploy/kubernetes/base, by kind and name."""
    import yaml

    base = DEPLOY / "kubernetes/base"
    files = sorted(base.glob("*.yaml"))
    root = yaml.safe_load((base / "kustomization.yaml").read_text())
    named = root["resources"]
    assert sorted(named + ["kustomization.yaml"]) == [file.name for file in files], "kustomization.yaml names every file"
    objects = {}
    for name in named:
        for each in yaml.safe_load_all((base / name).read_text()):
            objects[each["kind"], each["metadata"]["name"]] = each
    for each in root["configMapGenerator"]:
        data = {name: (base / name).read_text() for name in each.get("files", [])}
        data |= dict(literal.split("=", 1) for literal in each.get("literals", []))
        metadata = {"name": each["name"], "namespace": root["namespace"]}
        objects["ConfigMap", each["name"]] = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}
    return objects


def test_the_overlays_refer_to_existing_objects():
    """An overlay's base, image and config map. The output of kustomize was checked by hand."""
    import yaml

    objects = manifests()
    images = {each["image"].partition(":")[0] for each in objects["StatefulSet", "plgw"]["spec"]["template"]["spec"]["containers"]}
    for file in sorted((DEPLOY / "kubernetes/overlays").glob("*/kustomization.yaml")):
        overlay = yaml.safe_load(file.read_text())
        resources = [(file.parent / name).resolve(strict=True) for name in overlay["resources"]]
        # kustomize refuses a resource that holds the overlay itself: "cycle detected".
        assert not any(file.is_relative_to(resource) for resource in resources), file
        assert {each["name"] for each in overlay.get("images", [])} <= images, file
        for each in overlay.get("configMapGenerator", []):
            known = objects["ConfigMap", each["name"]]["data"]
            assert each["behavior"] == "merge" and {name.partition("=")[0] for name in each["literals"]} <= known.keys(), file
    monitor = yaml.safe_load((DEPLOY / "kubernetes/overlays/prometheus-operator/servicemonitor.yaml").read_text())["spec"]
    service = objects["Service", "plgw"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["endpoints"][0]["port"] in {port["name"] for port in service["spec"]["ports"]}


def test_the_manifests_are_valid_in_old_and_new_clusters():
    import kubernetes_validate

    for version in ("1.28", "1.31", "1.34"):
        for each in manifests().values():
            kubernetes_validate.validate(each, version, strict=True)
    wrong = copy.deepcopy(manifests()["StatefulSet", "plgw"])
    wrong["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    try:
        kubernetes_validate.validate(wrong, "1.34", strict=True)
    except kubernetes_validate.ValidationError:
        pass
    else:
        raise AssertionError("an invented key is let through")


def test_the_manifests_fit_together():
    import tomllib

    objects = manifests()
    pod = objects["StatefulSet", "plgw"]["spec"]["template"]
    spec, labels = pod["spec"], pod["metadata"]["labels"]
    container = spec["containers"][0]
    config = tomllib.loads(objects["ConfigMap", "plgw"]["data"]["gateway.toml"])
    # A private key that others may read is refused.
    secrets = [volume["secret"] for volume in spec["volumes"] if "secret" in volume]
    assert secrets and all(secret["defaultMode"] == 0o440 for secret in secrets), secrets
    # SIGTERM drains for shutdown_grace, and only later comes SIGKILL.
    assert spec["terminationGracePeriodSeconds"] > seconds(config["shutdown_grace"]) + 10
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    for probe, path in (("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        get = container[probe]["httpGet"]
        assert get["path"] == path and ports[get["port"]] == int(config["metrics"]["listen"].partition(":")[2])
    assert {ports["dns-udp"], ports["dns-tcp"]} == {int(config["dns"]["listen"][0].partition(":")[2])}
    for (kind, name), each in objects.items():
        if kind == "Namespace":
            continue
        assert each["metadata"]["namespace"] == "plgw", (kind, name)
        selector = {
            "Service": lambda each: each["spec"]["selector"],
            "StatefulSet": lambda each: each["spec"]["selector"]["matchLabels"],
            "PodDisruptionBudget": lambda each: each["spec"]["selector"]["matchLabels"],
            "NetworkPolicy": lambda each: each["spec"]["podSelector"].get("matchLabels", {}),
        }.get(kind)
        assert selector is None or selector(each).items() <= labels.items(), (kind, name)
        for port in each["spec"]["ports"] if kind == "Service" else []:
            assert port["targetPort"] in ports, port
    # The profile `restricted`, which the namespace enforces.
    assert spec["securityContext"]["runAsNonRoot"] and spec["securityContext"]["seccompProfile"]["type"] == "RuntimeDefault"
    for each in spec["containers"] + spec["initContainers"]:
        assert each["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }, each["name"]
    # The image's own user, so that the volume is its.
    user = f'{spec["securityContext"]["runAsUser"]}:{spec["securityContext"]["runAsGroup"]}'
    assert user == dict(stages()[1])["USER"]
    policy = objects["NetworkPolicy", "plgw"]["spec"]
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    service_side = {"namespaceSelector": {"matchLabels": {"plgw/vpc": "service"}}}
    assert all(service_side not in rule["from"] for rule in policy["ingress"])
    # Each of the gateway's own ports is open only to its users: DNS to clients, metrics to monitoring.
    reached = {}
    for rule in policy["ingress"]:
        who = {name for each in rule["from"] for name in each["namespaceSelector"]["matchLabels"].values()}
        for each in rule["ports"]:
            for port in (1024, 5334, 5335, 8474, 9464):
                if each["port"] <= port <= each.get("endPort", each["port"]):
                    reached.setdefault((port, each["protocol"]), set()).update(who)
    assert reached == {
        (1024, "TCP"): {"consumer"}, (5334, "TCP"): {"consumer"},
        (5335, "TCP"): {"consumer", "kube-system"}, (5335, "UDP"): {"consumer", "kube-system"},
        (9464, "TCP"): {"monitoring"},
    }, reached
    assert [rule["to"] for rule in policy["egress"]] == [[service_side]]


def test_the_manifests_config_runs_at_the_pods_address():
    objects = manifests()
    template, out = lab.work() / "template", lab.work() / "out"
    for directory in (template, out):
        directory.mkdir()
    text = objects["ConfigMap", "plgw"]["data"]["gateway.toml"]
    (template / "gateway.toml").write_text(text.replace("/var/lib/plgw", str(lab.work() / "pod")))
    # The init container's own command.
    shell, option, script = objects["StatefulSet", "plgw"]["spec"]["template"]["spec"]["initContainers"][0]["command"]
    script = script.replace("/template/", f"{template}/").replace("/etc/plgw/", f"{out}/")
    lab.run(shell, option, script, env={**os.environ, "POD_IP": "10.244.3.17", **objects["ConfigMap", "plgw-network"]["data"]})
    lab.own_addresses("10.244.3.17")
    gateway = lab.Gateway("serve", "--config", out / "gateway.toml", ready=False)
    try:
        lab.eventually("it is ready", lambda: is_ready(("10.244.3.17", 9464)), gateway=gateway)
        answer = lab.run("dig", "@10.244.3.17", "-p", "5335", "+short", "pl-0-us-east-1-k45tj.mongodb.net").stdout
        assert answer.splitlines()[-1] == "10.244.3.17", answer
        assert gateway.stop() == 0
    finally:
        gateway.kill()
        no_addresses("10.244.3.17")


# ---- several gateways -----------------------------------------------------------------------------------------------


FLEET = DEPLOY / "fleet"


def fleet():
    import yaml

    return yaml.safe_load((FLEET / "compose.yaml").read_text())


def fleet_objects():
    import yaml

    objects = {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all((FLEET / "kubernetes.yaml").read_text())}
    metadata = {"name": "plgw", "namespace": "plgw-fleet"}
    data = {"gateway.toml": (FLEET / "gateway.toml").read_text()}
    return objects | {("ConfigMap", "plgw"): {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}}


def checked_fleet(files):
    """Each config is right, one zone is each one's, and in all else they are the same; the zones with their addresses."""
    import tomllib

    configs = {}
    for file in files:
        # A program without the feature `etcd` checks all but the shared state.
        text = re.sub(r"^\[gateway\]\n(?:\w.*\n)*", "", file.read_text(), flags=re.M)
        text = re.sub(r"^store = .*\nendpoints = .*\n", "", text, flags=re.M)
        assert "etcd" not in text.split("[dns]")[0], text
        plain = file.with_suffix(".plain")
        plain.write_text(text)
        done = lab.run(lab.PLGW, "check", plain)
        assert "ok: 1 VPC, 1 endpoint, 1 cluster, 3 targets, 9 listeners" in done.stdout, done.stdout
        config = tomllib.loads(file.read_text())
        (zone,) = config["gateway"]["zones"]
        configs[config["gateway"]["id"]] = zone
        rest = {key: value for key, value in config.items() if key != "gateway"}
        first = configs.setdefault("", json.dumps(rest, sort_keys=True))
        assert json.dumps(rest, sort_keys=True) == first, file
    rest = json.loads(configs.pop(""))
    subnets = {subnet["id"]: subnet["zone"] for subnet in rest["vpc"][0]["subnet"]}
    addresses = {subnets[at["subnet"]]: at["ip"] for at in rest["interface_endpoint"][0]["address"]}
    assert len(configs) == 3 and set(configs.values()) == set(addresses), (configs, addresses)
    return {name: (zone, addresses[zone]) for name, zone in configs.items()}, rest


def test_the_compose_file_of_three_gateways_is_valid_and_each_gateway_has_its_zones_address():
    import compose_spec

    file = fleet()
    read = compose_spec.PyCompose.from_json(json.dumps(file))
    assert {f"gateway-{name}" for name in "abc"} | {f"etcd-{n}" for n in range(3)} <= set(read.service_names())
    # The script that makes the configs, as compose hands it to the shell.
    out = lab.work() / "fleet-compose"
    out.mkdir()
    shell, option, script = file["services"]["config"]["command"]
    script = script.replace("$$", "$").replace("/template/", f"{FLEET}/").replace("/etc/plgw/", f"{out}/")
    lab.run(shell, option, script)
    configs, rest = checked_fleet(sorted(out.glob("*.toml")))
    for name, (_, address) in configs.items():
        service = file["services"][f"gateway-{name}"]
        networks = {network: of["ipv4_address"] for network, of in service["networks"].items() if "ipv4_address" in of}
        assert list(networks.values()) == [address], (name, networks)
        (network,) = networks
        subnet = file["networks"][network]["ipam"]["config"][0]["subnet"]
        assert ipaddress.ip_address(address) in ipaddress.ip_network(subnet)
        assert service["command"][-1] == f"/etc/plgw/{name}.toml"
        assert seconds(service["stop_grace_period"]) > seconds(rest["shutdown_grace"]) + 5
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
        assert service["build"]["dockerfile"] == "deploy/container/Containerfile" and ("ARG", "FEATURES=etcd") in stages()[0]
    assert rest["state"]["endpoints"] == [f"http://etcd-{n}:2379" for n in range(3)]
    members = {file["services"][f"etcd-{n}"]["environment"]["ETCD_INITIAL_CLUSTER"] for n in range(3)}
    assert members == {",".join(f"etcd-{n}=http://etcd-{n}:2380" for n in range(3))}
    assert file["networks"]["state"]["internal"] and file["networks"]["service"]["internal"]


def test_the_manifests_of_three_gateways_are_valid_and_each_node_gets_its_zone():
    import kubernetes_validate

    objects = fleet_objects()
    for version in ("1.28", "1.31", "1.34"):
        for each in objects.values():
            kubernetes_validate.validate(each, version, strict=True)
    assert all(each["metadata"]["namespace"] == "plgw-fleet" for (kind, _), each in objects.items() if kind != "Namespace")
    spec = objects["StatefulSet", "plgw"]["spec"]
    pod = spec["template"]["spec"]
    shell, option, script = pod["initContainers"][0]["command"]
    there = lab.work() / "fleet-pods"
    there.mkdir()
    (there / "zones").write_text(objects["ConfigMap", "plgw-zones"]["data"]["zones"])
    files = []
    for number, line in enumerate((there / "zones").read_text().splitlines()):
        out = there / str(number)
        out.mkdir()
        text = script.replace("/template/", f"{FLEET}/").replace("/zones/", f"{there}/").replace("/etc/plgw/", f"{out}/")
        lab.run(shell, option, text, env={**os.environ, "NAME": f"plgw-{number}", "NODE_ADDRESS": line.split()[0]})
        files.append(out / "gateway.toml")
    # A node that is no zone's starts nothing.
    done = lab.run(shell, option, text, check=False, env={**os.environ, "NAME": "plgw-3", "NODE_ADDRESS": "10.0.0.9"})
    assert done.returncode == 1 and "no zone for 10.0.0.9" in done.stderr, done
    configs, rest = checked_fleet(files)
    assert dict(configs.values()).items() == {line.split()[1]: line.split()[0] for line in (there / "zones").read_text().splitlines()}.items()
    assert pod["terminationGracePeriodSeconds"] > seconds(rest["shutdown_grace"]) + 10
    service = objects["StatefulSet", "etcd"]["spec"]["serviceName"]
    endpoints = [f"http://etcd-{n}.{service}.plgw-fleet.svc.cluster.local:2379" for n in range(objects["StatefulSet", "etcd"]["spec"]["replicas"])]
    assert rest["state"]["endpoints"] == endpoints and spec["replicas"] == 3
    ports = {port["name"]: port["containerPort"] for port in pod["containers"][0]["ports"]}
    assert ports["metrics"] == 9464 and ports["dns-udp"] == ports["dns-tcp"] == 53
    for name in ("plgw", "etcd"):
        labels = objects["StatefulSet", name]["spec"]["template"]["metadata"]["labels"]
        for kind in ("StatefulSet", "PodDisruptionBudget"):
            assert objects[kind, name]["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert objects["Service", name]["spec"]["selector"].items() <= labels.items()


# ---- nftables, sysctl -----------------------------------------------------------------------------------------------


class Host:
    """A network namespace with one cable to this one."""

    def __init__(self, here, address, via, *more):
        self.holder = subprocess.Popen(["unshare", "--net", "sh", "-c", "echo; exec sleep 3600"], stdout=subprocess.PIPE)
        # A line reports that the namespace exists.
        self.holder.stdout.readline()
        lab.run("ip", "link", "add", here, "type", "veth", "peer", "name", "eth0", "netns", str(self.holder.pid))
        lab.run("ip", "link", "set", here, "up")
        for each in ("lo", "eth0"):
            self.run("ip", "link", "set", each, "up")
        for each in (address, *more):
            self.run("ip", "address", "add", each, "dev", "eth0")
        self.via, self.here = via, here

    def routed(self):
        self.run("ip", "route", "add", "default", "via", self.via)
        return self

    def argv(self, *argv):
        return ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net", *map(str, argv)]

    def run(self, *argv, **more):
        return lab.run(*self.argv(*argv), **more)

    def connects(self, to, port, source="", wait=2):
        """The result of a TCP connection: connected, timed out, refused."""
        script = (
            "import socket, sys\n"
            "try: socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=float(sys.argv[4]),"
            " source_address=(sys.argv[3], 0)); print('connected')\n"
            "except TimeoutError: print('timed out')\n"
            "except ConnectionRefusedError: print('refused')\n"
        )
        return self.run(sys.executable, "-c", script, to, port, source, wait).stdout.strip()

    def close(self):
        self.holder.kill()
        self.holder.wait()


ECHO = """
import socket, sys, threading
def serve(taken):
    while data := taken.recv(65536):
        taken.sendall(data)
with socket.create_server((sys.argv[1], int(sys.argv[2]))) as server:
    print("listening", flush=True)
    while True:
        threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
"""


def two_arms():
    """Three hosts: a consumer's, the service's, and this one between them with the gateway on it."""
    consumer = Host("vpc0", "10.0.30.10/24", "10.0.30.1")
    service = Host("svc0", "10.1.0.11/24", "10.1.0.4", "10.0.77.7/32")
    lab.run("ip", "address", "add", "10.0.30.1/24", "dev", "vpc0")
    for address in ("10.0.30.194", "10.0.0.2"):
        lab.run("ip", "address", "add", f"{address}/32", "dev", "vpc0")
    lab.run("ip", "address", "add", "10.1.0.4/24", "dev", "svc0")
    # The worst host that there can be: it routes, and believes every source.
    for key in ("ip_forward", "conf/vpc0/forwarding", "conf/svc0/forwarding"):
        pathlib.Path(f"/proc/sys/net/ipv4/{key}").write_text("1")
    for key in ("all", "vpc0", "svc0"):
        pathlib.Path(f"/proc/sys/net/ipv4/conf/{key}/rp_filter").write_text("0")
    echoes = []
    try:
        for host, address, port in ((consumer.routed(), "10.0.30.10", 9999), (service.routed(), "10.1.0.11", 27017)):
            echo = subprocess.Popen(host.argv(sys.executable, "-c", ECHO, address, port), stdout=subprocess.PIPE)
            echoes.append(echo)
            assert echo.stdout.readline() == b"listening\n"
        config = lab.work() / "two-arms.toml"
        config.write_text((DEPLOY / "compose/gateway.toml").read_text().replace("/var/lib/plgw", str(lab.work() / "arms")))
        gateway = lab.Gateway("serve", "--config", config)
        yield consumer, service
        gateway.kill()
    finally:
        for process in echoes:
            process.kill()
            process.wait()
        for host in (consumer, service):
            host.close()


RULES = DEPLOY / "nftables/plgw.nft"


def dropped():
    """The packets dropped by the rules, by counter."""
    listed = json.loads(lab.run("nft", "-j", "list", "counters", "table", "inet", "plgw_one_way").stdout)
    counters = [entry["counter"] for entry in listed["nftables"] if "counter" in entry]
    return {counter["name"]: counter["packets"] for counter in counters}


def test_without_the_rules_the_kernel_lets_the_services_side_in(two_arms):
    """The control for the following tests."""
    consumer, service = two_arms
    assert service.connects("10.0.30.194", 1024) == "connected", "to be refused by the gateway alone"
    assert service.connects("10.0.30.10", 9999) == "connected", "past the gateway"
    assert consumer.connects("10.1.0.11", 27017) == "connected", "past the gateway"


def test_the_rules_hold_one_way_in_the_kernel_and_let_flows_through(two_arms):
    """A2."""
    consumer, service = two_arms
    lab.run("nft", "-c", "-f", RULES)
    lab.run("nft", "-f", RULES)
    try:
        assert service.connects("10.0.30.194", 1024) == "timed out", "the endpoint"
        assert service.connects("10.1.0.4", 1024) == "timed out", "the host's own address"
        assert service.connects("10.0.30.10", 9999) == "timed out", "a host in the VPC"
        assert service.connects("10.1.0.4", 1024, source="10.0.77.7") == "timed out", "a forged source"
        assert consumer.connects("10.1.0.11", 27017) == "timed out", "past the gateway"
        seen = dropped()
        assert all(seen[name] > 0 for name in ("wrong_arm", "begun_by_service", "forged_source", "forwarded")), seen
        # Forward: the consumer's flow through the gateway, and loading the rules again under it.
        script = (
            "import socket, sys\n"
            "flow = socket.create_connection(('10.0.30.194', 1024), timeout=30)\n"
            "def echo(text):\n"
            "    flow.sendall(text)\n"
            "    got = b''\n"
            "    while len(got) < len(text): got += flow.recv(65536)\n"
            "    print(got.decode(), flush=True)\n"
            "echo(b'before'); sys.stdin.readline(); echo(b'after')\n"
        )
        argv = consumer.argv(sys.executable, "-c", script)
        flow = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert flow.stdout.readline() == "before\n"
        lab.run("nft", "-f", RULES)
        said, _ = flow.communicate("go on\n", timeout=lab.SOON)
        assert said == "after\n", said
        lab.eventually("the target is healthy", lambda: is_healthy("Cluster0/shard-00-00"))
    finally:
        lab.run("nft", "delete", "table", "inet", "plgw_one_way")
    assert service.connects("10.0.30.10", 9999) == "connected", "and they can be taken away"


def test_every_sysctl_key_exists_and_has_its_reason(two_arms):
    lines = (DEPLOY / "sysctl.d/60-plgw.conf").read_text().splitlines()
    keys = {}
    for above, line in zip(lines, lines[1:]):
        if "=" in line and not line.startswith("#"):
            assert above.startswith("# "), f"{line}: no reason above it"
            key, _, value = line.partition("=")
            keys[key.strip()] = value.strip()
    assert len(keys) >= 10, keys
    for key, value in keys.items():
        path = pathlib.Path("/proc/sys", key.replace(".", "/"))
        assert path.exists(), f"the kernel knows no {key}"
        # Keys of this namespace are really set; the others belong to the machine.
        if key.startswith("net.ipv4.") or key == "net.core.somaxconn":
            path.write_text(value)
            assert path.read_text().split() == value.split(), key
    # And the gateway continues.
    consumer, _ = two_arms
    assert consumer.connects("10.0.30.194", 1024) == "connected"


# ---- helpers --------------------------------------------------------------------------------------------------------


def is_ready(address):
    status, body = lab.get(address, "/readyz")
    assert status == 200, body


def is_healthy(target):
    states = {each["id"]: each["members"][0]["state"] for each in lab.api("GET", "/v1/targets")["targets"]}
    assert states[target] == "healthy", states


def counted(name, *labels):
    assert lab.metric(name, *labels) > 0, name


def accepted(server):
    """A connection that brings something: health checks bring nothing."""
    while True:
        taken, _ = server.accept()
        taken.settimeout(lab.SOON)
        if taken.recv(1, socket.MSG_PEEK):
            return taken
        taken.close()


def seconds(text):
    return int(text[:-1]) * {"s": 1, "m": 60}[text[-1]]


def no_addresses(*addresses):
    for address in addresses:
        lab.run("ip", "address", "del", f"{address}/32", "dev", "lo")


if __name__ == "__main__":
    lab.main(globals())
