"""The console in Chromium: what is clicked there happens in the data plane, for a mouse, for keys, and for no page of others.

    tests/clients/console.py --screenshots DIR    takes the README's pictures instead
"""

import functools
import http.client
import http.server
import json
import math
import os
import pathlib
import shutil
import socket
import ssl
import sys
import threading
import urllib.parse

import lab

CHROMIUM, DRIVER = (shutil.which(tool) for tool in ("chromium", "chromedriver"))
CONSOLE = "http://{}:{}/".format(*lab.ADMIN)
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
]

# The quickstart's.
SRV = "_mongodb._tcp.cluster0-pl-0-k45tj.mongodb.net"
HOST = "pl-0-us-east-1-k45tj.mongodb.net"
ADDRESSES = {"us-east-1a": "127.0.30.194", "us-east-1b": "127.0.20.54"}
ENDPOINT = "vpce-024f5b57108c8d3ed"
SERVICE = "vpce-svc-02863655456245e5c"
PROJECT = "5f2a1b3c4d5e6f7081920a3b"
APP = "myapp-abcde"
APP_PUBLIC = ("127.9.0.10", 8443)
APP_HOST = "us-east-1.aws.services.cloud.mongodb.com"
INTERNET = "127.9.0.9"

WIDE, NARROW = (1440, 900), (390, 860)


def setup():
    lab.need("chromium", "chromedriver")
    try:
        import dns.resolver  # noqa: F401
        import selenium  # noqa: F401
    except ImportError as error:
        raise lab.Skip(f"{error}: .ci/run installs it") from error
    if not (lab.TOOLS / "node_modules" / "axe-core").exists():
        raise lab.Skip("axe-core is missing: .ci/run installs it")


# ---- the browser ---------------------------------------------------------------------------------------------------


class Page:
    """The console in a separate browser, used as a sighted person does."""

    def __init__(self, url=CONSOLE, size=WIDE):
        from selenium import webdriver
        from selenium.webdriver.chrome.options import Options
        from selenium.webdriver.chrome.service import Service

        options = Options()
        options.binary_location = CHROMIUM
        Page.count = getattr(Page, "count", 0) + 1
        home = lab.work() / f"browser-{Page.count}"
        home.mkdir()
        for flag in [*FLAGS, f"--user-data-dir={home / 'profile'}"]:
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        environment = {**os.environ, "HOME": str(home), "XDG_CONFIG_HOME": str(home), "XDG_CACHE_HOME": str(home)}
        self.driver = webdriver.Chrome(options=options, service=Service(DRIVER, env=environment))
        self.resize(size)
        self.open(url)

    def open(self, url):
        self.driver.get(url)

    def resize(self, size):
        self.cdp("Emulation.setDeviceMetricsOverride", width=size[0], height=size[1], deviceScaleFactor=1, mobile=False)

    def prefer(self, scheme):
        """The system's setting for light and dark."""
        self.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def cdp(self, command, **arguments):
        return self.driver.execute_cdp_cmd(command, arguments)

    def js(self, text, *arguments):
        return self.driver.execute_script(text, *arguments)

    def find(self, selector):
        found = self.driver.find_elements("css selector", selector)
        assert found, f"nothing is at {selector}"
        return found[0]

    def text(self, selector):
        return self.js("return arguments[0].innerText", self.find(selector))

    def button(self, name):
        """The button whose name is `name` to a screen reader."""
        found = self.driver.find_elements("xpath", f"//button[normalize-space(.)={quoted(name)}]")
        assert found, f"there is no button `{name}`"
        return found[0]

    def field(self, label):
        found = self.driver.find_elements("xpath", f"//label[starts-with(normalize-space(.), {quoted(label)})]")
        assert found, f"there is no field `{label}`"
        return self.find("#" + found[0].get_attribute("for"))

    def click(self, name):
        self.js("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", self.button(name))
        self.button(name).click()

    def choose(self, label, text):
        from selenium.webdriver.support.ui import Select

        select = self.field(label)
        self.js("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", select)
        Select(select).select_by_visible_text(text)

    def write(self, label, text):
        field = self.field(label)
        field.clear()
        field.send_keys(text)

    def row(self, body, name):
        """The texts in the cells of the row that is headed by `name`."""
        for row in self.driver.find_elements("css selector", f"#{body} > tr"):
            heads = row.find_elements("css selector", "th")
            if heads and heads[0].text.partition("\n")[0] == name:
                return [cell.text for cell in row.find_elements("css selector", "th, td")]
        raise AssertionError(f"#{body} has no row `{name}`: {self.text('#' + body)}")

    def shows(self, selector, text):
        """Waits until a place has this text."""

        def look():
            assert text in self.text(selector), self.text(selector)

        lab.eventually(f"{selector} shows {text!r}", look)

    def ready(self):
        self.shows("#state", "ready")
        return self

    def press(self, *keys):
        from selenium.webdriver.common.action_chains import ActionChains

        ActionChains(self.driver).send_keys(*keys).perform()

    def tab_to(self, name, most=120):
        """Presses Tab until the element named `name` has the focus; each focus on the way must be visible."""
        from selenium.webdriver.common.keys import Keys

        for _ in range(most):
            self.press(Keys.TAB)
            now = self.js(
                "const e = document.activeElement, s = getComputedStyle(e);"
                "const label = e.labels?.[0]?.textContent ?? e.getAttribute('aria-label') ?? e.textContent;"
                "return [label.replace(/\\s+/g, ' ').trim(), s.outlineStyle, e.tagName]"
            )
            if now[2] != "BODY":
                assert now[1] != "none", f"focus on {now} is not to be seen"
            if now[0].startswith(name):
                return self.driver.switch_to.active_element
        raise AssertionError(f"no way by Tab to `{name}`")

    def complaints(self, network=True):
        """The browser's errors: of scripts, the policy, and, by default, responses."""
        lines = [line for line in self.driver.get_log("browser") if line["level"] == "SEVERE"]
        return [line["message"] for line in lines if network or line["source"] != "network"]

    def axe(self):
        """The findings of axe-core as text."""
        source = (lab.TOOLS / "node_modules" / "axe-core" / "axe.min.js").read_text()
        # Not as a script of the page: its policy would forbid it.
        self.cdp("Runtime.evaluate", expression=source)
        found = self.driver.execute_async_script(
            "const done = arguments[arguments.length - 1];"
            "axe.run(document, {resultTypes: ['violations']}).then(r => done(r.violations), e => done([{id: String(e), nodes: []}]))"
        )
        return [f"{v['id']}: {', '.join(n['html'][:120] for n in v['nodes'])}" for v in found]

    def close(self):
        self.driver.quit()


def quoted(text):
    assert '"' not in text
    return f'"{text}"'


# ---- the data plane ------------------------------------------------------------------------------------------------


def ask(name, kind):
    """The answers of the VPC's resolver as text."""
    import dns.resolver

    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers, resolver.cache = ["127.0.0.1"], None
    return sorted(record.to_text() for record in resolver.resolve(name, kind))


def srv_ports():
    return sorted(int(record.split()[2]) for record in ask(SRV, "SRV"))


def tls(address):
    """A connection to a verified MongoDB host behind the gateway."""
    context = ssl.create_default_context(cafile=lab.ca())
    raw = socket.create_connection(address, timeout=lab.SOON)
    try:
        return context.wrap_socket(raw, server_hostname=HOST)
    except BaseException:
        raw.close()
        raise


def leads_to_a_target(port):
    tls((ADDRESSES["us-east-1a"], port)).close()


def app_status(path=f"/api/client/v2.0/app/{APP}/location"):
    """The status that a client on the internet gets from the app."""
    done = lab.run(
        "curl", "-s", "-m", "20", "-o", "/dev/null", "-w", "%{http_code}", "--cacert", lab.ca(), "--interface", INTERNET,
        "--connect-to", "::{}:{}".format(*APP_PUBLIC), f"https://{APP_HOST}:{APP_PUBLIC[1]}{path}", check=False,
    )
    return int(done.stdout)


def port_of(target):
    cluster, _, member = target.partition("/")
    return lab.ports(cluster)[member]


# ---- fixtures ------------------------------------------------------------------------------------------------------


def gateway():
    lab.need("curl")
    yield lab.quickstart("--state-in-memory")


def page(gateway=None):
    # One browser for the tests that share a gateway: a page is used for long, too.
    page = Page()
    yield page.ready()
    page.close()


# ---- what is seen and done -----------------------------------------------------------------------------------------


def test_the_page_shows_the_running_gateway_without_browser_errors(gateway, page):
    """Statuses in the words of Atlas' Private Endpoint tab."""
    assert page.row("endpoint-rows", ENDPOINT)[2:5] == ["Available", ENDPOINT, "Available"]
    for zone, address in ADDRESSES.items():
        assert f"{zone} {address}" in page.row("endpoint-rows", ENDPOINT)[5]
    row = page.row("target-rows", "Cluster0/shard-00-01")
    assert row[1] == "1025" and row[2].startswith("us-east-1b 127.1.0.12:27017") and row[3] == "healthy", row
    assert page.text("#problems") == "Ready\nNothing is wrong"
    assert page.row("limit-rows", "Addressable targets")[2:4] == ["4", "50"]
    assert "General" in page.text("#app-endpoint-rows") and "Sync" in page.text("#app-endpoint-rows")
    for table in page.driver.find_elements("css selector", "table"):
        assert table.find_elements("css selector", "caption"), table.text
    # The bytes of the self-check, by target and in total, equal to the metrics.
    told = lab.api("GET", "/v1/throughput")
    for key, labels in (("bytes_to_target", 'direction="to_target"'), ("bytes_to_client", 'direction="to_client"')):
        assert told["total"][key] == sum(one[key] for one in told["targets"].values()) > 0, told
        of_target = lab.metric("plgw_processed_bytes_total", 'target="Sharded0/lb"', labels)
        assert told["targets"]["Sharded0/lb"][key] == of_target, (told, of_target)
    # Nothing is asked of anywhere else.
    entries = page.js("return performance.getEntriesByType('resource').map(e => e.name)")
    assert entries and all(entry.startswith(CONSOLE) for entry in entries), entries
    # A gateway without stand-ins answers 404 once.
    assert [line for line in page.complaints() if "/v1/standins" not in line] == []


def test_a_click_moves_a_port_and_dns_names_it(gateway, page):
    """A6."""
    before = port_of("Cluster0/shard-00-00")
    page.click("Move port of Cluster0/shard-00-00")
    page.click("Move")
    page.shows("#notices", f"Cluster0/shard-00-00 moved from port {before} to port 1028")
    assert port_of("Cluster0/shard-00-00") == 1028
    assert srv_ports() == [1025, 1026, 1028]
    leads_to_a_target(1028)
    assert page.row("target-rows", "Cluster0/shard-00-00")[1] == "1028"
    page.shows("#live", f"Cluster0/shard-00-00 moved from port {before} to port 1028")
    page.shows("#event-rows", f"Cluster0/shard-00-00 moved from port {before} to port 1028")


def test_a_port_that_is_taken_is_refused_in_the_gateways_words(gateway, page):
    page.click("Move port of Cluster0/shard-00-00")
    page.write("New port", "1025")
    page.click("Move")
    page.shows("#move-problem", "1025")
    page.write("New port", "2000")
    page.click("Move")
    page.shows("#notices", "to port 2000")
    leads_to_a_target(2000)
    assert srv_ports() == [1025, 1026, 2000]


def test_a_connection_string_is_chosen_as_in_atlas_and_copied(gateway, page):
    """A9, A10, A16: private endpoint or standard, seed list or ports, and the optimized one."""
    page.cdp("Browser.grantPermissions", permissions=["clipboardReadWrite", "clipboardSanitizedWrite"])
    strings = {one["cluster"]: one for one in lab.api("GET", "/v1/connection-strings")["connection_strings"]}

    def copied():
        page.js("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", page.button("Copy"))
        page.button("Copy").click()
        return page.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0], e => arguments[0](String(e)))")

    private = strings["Cluster0"]["private"][0]
    for kind, form, expected in (
        ("Private Endpoint", "DNS seedlist connection (recommended)", private["srv_connection_string"]),
        ("Private Endpoint", "Standard connection string", private["connection_string"]),
        ("Standard (IP access list)", "DNS seedlist connection (recommended)", strings["Cluster0"]["standard_srv"]),
        ("Standard (IP access list)", "Standard connection string", strings["Cluster0"]["standard"]),
    ):
        page.choose("Database deployment", "Cluster0")
        page.choose("Connection type", kind)
        page.choose("Format", form)
        lab.eventually(f"{kind}, {form} is copied", functools.partial(same, copied, expected))
    page.choose("Connection type", "Private Endpoint")
    page.choose("Database deployment", "Sharded0")
    page.choose("Format", "DNS seedlist connection, optimized for sharded clusters")
    optimized = strings["Sharded0"]["private"][0]["srv_shard_optimized_connection_string"]
    lab.eventually("the optimized one is copied", functools.partial(same, copied, optimized))
    # It leads somewhere.
    assert ask("_mongodb._tcp." + optimized.removeprefix("mongodb+srv://"), "SRV")


def same(look, expected):
    found = look()
    assert found == expected, found


def test_restrict_access_decides_what_the_internet_gets(gateway, page):
    """B3, B4."""
    switch = f"Restrict Access for {APP}"
    assert page.button(switch).get_attribute("aria-checked") == "true"
    assert app_status() == 404
    page.click(switch)
    page.shows("#notices", "from outside the VPC too")
    assert page.button(switch).get_attribute("aria-checked") == "false"
    assert app_status() == 200
    page.click(switch)
    page.shows("#notices", "from its VPC alone")
    assert app_status() == 404


def test_the_wire_protocol_is_refused_beside_private_endpoints(gateway, page):
    """B12: the refusal is shown, and the switch stays."""
    page.click(f"MongoDB wire protocol for {APP}")
    page.shows("#notices", f"{APP} stays as it is: ")
    assert page.button(f"MongoDB wire protocol for {APP}").get_attribute("aria-checked") == "false"


def test_a_flow_is_seen_and_ended(gateway, page):
    flow = tls((ADDRESSES["us-east-1b"], 1025))
    client = "{}:{}".format(*flow.getsockname())
    page.field("Search flows").send_keys(client)
    page.shows("#flow-rows", client)
    assert client.split(":")[0] in page.js("return document.getElementById('picture').textContent")
    mine = [one for one in lab.api("GET", "/v1/flows")["flows"] if one["client"] == client]
    page.click(f"End flow {mine[0]['id']} from {client}")
    flow.settimeout(lab.SOON)
    try:
        ended = flow.recv(1) == b""
    except (ConnectionResetError, ssl.SSLError):
        ended = True
    assert ended
    lab.eventually("the flow is gone", lambda: same(lambda: client in page.text("#flow-rows"), False))
    page.js("arguments[0].value = ''; arguments[0].dispatchEvent(new Event('input'))", page.field("Search flows"))
    flow.close()


def test_a_fault_is_switched_on_and_off(gateway, page):
    port = port_of("Cluster0/shard-00-02")
    leads_to_a_target(port)
    page.choose("What goes wrong", "Refuse connections")
    page.choose("Where", "Target Cluster0/shard-00-02")
    page.write("Name", "closed")
    page.click("Switch on")
    page.shows("#fault-rows", "closed")
    try:
        leads_to_a_target(port)
        raise AssertionError("the port still leads to its target")
    except (ConnectionRefusedError, ConnectionResetError, ssl.SSLError):
        pass
    page.shows("#problems", "fault `closed` is on: refuse at target Cluster0/shard-00-02")
    assert page.row("fault-rows", "closed")[2:5] == ["target Cluster0/shard-00-02", "100 %", "On"]
    leads_to_a_target(1025)
    page.click("Switch off closed")
    page.shows("#fault-rows", "No fault")
    leads_to_a_target(port)


def test_dns_fails_as_long_as_the_fault_is_on(gateway, page):
    import dns.resolver

    page.choose("What goes wrong", "DNS failure")
    page.choose("How", "NXDOMAIN")
    page.click("Switch on")
    page.shows("#fault-rows", "dns-failure-1")
    try:
        ask(HOST, "A")
        raise AssertionError("the name is answered")
    except dns.resolver.NXDOMAIN:
        pass
    page.click("Switch off dns-failure-1")
    page.shows("#fault-rows", "No fault")
    assert ask(HOST, "A") == sorted(ADDRESSES.values())


def test_a_zonal_shift_changes_what_dns_answers(gateway, page):
    assert ask(HOST, "A") == sorted(ADDRESSES.values())
    page.js("arguments[0].value = '1h'", page.find(f"select[aria-label='How long traffic is shifted away from us-east-1b of {SERVICE}']"))
    page.click(f"Shift away us-east-1b of {SERVICE}")
    page.shows("#notices", "shifted away from us-east-1b")
    page.shows("#zone-rows", "until ")
    page.shows("#problems", f"traffic of {SERVICE} is shifted away from us-east-1b until ")
    assert ask(HOST, "A") == [ADDRESSES["us-east-1a"]]
    row = page.row("zone-rows", "us-east-1b")
    assert row[2:4] == [f"{ADDRESSES['us-east-1b']} not in DNS", "Healthy"] and row[4].startswith("Shifted away\nuntil "), row
    page.click(f"End shift us-east-1b of {SERVICE}")
    page.shows("#notices", "us-east-1b is used again")
    assert ask(HOST, "A") == sorted(ADDRESSES.values())


def test_a_member_is_deregistered_and_put_back(gateway, page):
    def members():
        [target] = [one for one in lab.api("GET", "/v1/targets")["targets"] if one["id"] == "Sharded0/lb"]
        return {member["name"]: member["state"] for member in target["members"]}

    for verb, before, after in (("Deregister: no new flows", "healthy", "deregistered"), ("Register again", None, "registered")):
        page.click("Members of Sharded0/lb")
        page.choose("What to do", verb)
        from selenium.webdriver.support.ui import Select

        select = Select(page.field("Member"))
        [option] = [option for option in select.options if option.text.startswith("mongos-00 (")]
        select.select_by_visible_text(option.text)
        page.click("Apply")
        page.shows("#notices", f"mongos-00 of Sharded0/lb {after}")
        page.shows("#event-rows", f"mongos-00 of Sharded0/lb {after}")
        if before:
            assert members().get("mongos-00") != before, members()
    lab.eventually("it is healthy again", lambda: same(lambda: members()["mongos-00"], "healthy"))


def test_tables_are_searched_and_sorted_and_unhealthy_targets_come_first(gateway, page):
    def targets():
        return [row.text for row in page.driver.find_elements("css selector", "#target-rows th code")]

    def press(heading):
        page.js("arguments[0].click()", page.driver.find_element("xpath", f"//thead[following-sibling::tbody[@id='target-rows']]//button[.='{heading}']"))

    status, text = lab.request(lab.ADMIN, "POST", "/v1/faults", {"name": "down", "type": "target-down", "target": "Cluster0/shard-00-02"})
    assert status == 201, text
    lab.eventually("the unhealthy one is first", lambda: same(lambda: targets()[0], "Cluster0/shard-00-02"))
    page.shows("#problems", "of 4 targets has no healthy member: Cluster0/shard-00-02")
    press("Target")
    assert targets() == sorted(targets()) and targets()[0] == "Cluster0/shard-00-00", targets()
    press("Target")
    assert targets()[0] == "Sharded0/lb", targets()
    page.field("Search targets").send_keys("shard-00-02 127.1.0.13")
    assert targets() == ["Cluster0/shard-00-02"], targets()
    page.shows("#targets", "1 of 4 are shown")
    page.js("arguments[0].value = ''; arguments[0].dispatchEvent(new Event('input'))", page.field("Search targets"))
    press("Health")
    lab.request(lab.ADMIN, "DELETE", "/v1/faults")
    lab.eventually("nothing is wrong", lambda: same(lambda: "no healthy member" in page.text("#problems"), False))


def test_curves_outlive_a_reload_of_the_page(gateway, page):
    def points():
        return (page.find("#tile-open .line").get_attribute("d") or "").count("L")

    lab.eventually("there is a curve", lambda: same(lambda: points() >= 3, True))
    before = points()
    page.open(CONSOLE)
    page.ready()
    lab.eventually("it goes on", lambda: same(lambda: points() > before, True))


def test_the_menu_marks_the_section_that_was_chosen(gateway, page):
    for name in ("Zones", "Limits", "Events", "Overview"):
        page.js("arguments[0].click()", page.driver.find_element("xpath", f"//nav//a[.='{name}']"))
        lab.eventually(name, lambda: same(lambda: page.text("nav a[aria-current]"), name))


def test_a_limit_is_set_and_holds(gateway, page):
    name, of = "Flows of the fullest target", f"AWS us-east-1: {SERVICE}"

    def set_to(limit):
        field = page.driver.find_element("xpath", f"//input[@aria-label={quoted(f'New limit: {name}, {of}')}]")
        page.js("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", field)
        field.clear()
        field.send_keys(limit)
        page.click(f"Set {name}, {of}")
        lab.eventually("the limit is shown", lambda: same(lambda: page.row("limit-rows", name)[3], f"{int(limit):,}"))

    set_to("1")
    first = tls((ADDRESSES["us-east-1a"], 1026))
    refused = lab.metric("plgw_refused_flows_total", 'reason="flow_limit"')
    second = socket.socket()
    second.setblocking(False)
    second.connect_ex((ADDRESSES["us-east-1a"], 1026))

    def counted():
        assert lab.metric("plgw_refused_flows_total", 'reason="flow_limit"') == refused + 1

    lab.eventually("the second flow is refused", counted)
    set_to("55000")
    leads_to_a_target(1026)
    for one in (first, second):
        one.close()


def test_lifecycles_advance_step_by_step_when_frozen(gateway, page):
    """A23: *Creating private link*, *Available*, *Not configured*."""
    page.choose("Lifecycle pace", "Frozen")
    lab.eventually("lives are frozen", lambda: same(lambda: lab.api("GET", "/v1/lifecycle")["pace"], "frozen"))
    body = {"providerName": "AWS", "region": "EU_WEST_1"}
    status, text = lab.request(lab.ADMIN, "POST", f"/api/atlas/v1.0/groups/{PROJECT}/privateEndpoint/endpointService", body)
    assert status == 201, text
    page.shows("#endpoint-rows", "Creating private link")
    page.click("Next step now")
    page.shows("#notices", "The next step is taken")
    page.shows("#endpoint-rows", "Not configured")
    rows = page.text("#endpoint-rows")
    assert "eu-west-1" in rows and "Creating" not in rows, rows
    page.choose("Lifecycle pace", "Fast")
    lab.eventually("lives go on", lambda: same(lambda: lab.api("GET", "/v1/lifecycle")["pace"], "fast"))


def ec2(region, **parameters):
    """An EC2 call of a region, by the scope of its signature; the answer's text."""
    scope = f"AWS4-HMAC-SHA256 Credential=a/20261130/{region}/ec2/aws4_request, Signature=x"
    connection = http.client.HTTPConnection(*lab.ADMIN, timeout=lab.SOON)
    try:
        connection.request("POST", "/", urllib.parse.urlencode(parameters), {"Authorization": scope})
        answer = connection.getresponse()
        text = answer.read().decode()
        assert answer.status == 200, text
        return text
    finally:
        connection.close()


def test_an_endpoint_of_another_region_is_shown_with_its_region(gateway, page):
    """A31: and so are the regions that the service's owner supports."""
    path = f"/api/atlas/v2/groups/{PROJECT}/privateEndpoint"
    services = json.loads(lab.request(lab.ADMIN, "GET", f"{path}/AWS/endpointService")[1])
    service = next(one for one in services if one["regionName"] == "US_EAST_1")
    regions = {"cloudProvider": "AWS", "supportedRemoteRegions": ["EU_WEST_2"]}
    status, text = lab.request(lab.ADMIN, "PATCH", f"{path}/endpointService/{service['id']}", regions)
    assert status == 200, text
    page.shows("#endpoint-rows", "also from eu-west-2")
    of = lambda tag, xml: xml.split(f"<{tag}>")[1].split("<")[0]
    vpc = of("vpcId", ec2("eu-west-2", Action="CreateVpc", CidrBlock="127.6.0.0/16"))
    subnet = of("subnetId", ec2("eu-west-2", Action="CreateSubnet", VpcId=vpc, CidrBlock="127.6.1.0/24"))
    wanted = {"VpcEndpointType": "Interface", "VpcId": vpc, "SubnetId.1": subnet, "ServiceRegion": "us-east-1"}
    made = ec2("eu-west-2", Action="CreateVpcEndpoint", ServiceName=service["endpointServiceName"], **wanted)
    page.shows("#endpoint-rows", "in eu-west-2")
    ec2("eu-west-2", Action="DeleteVpcEndpoints", **{"VpcEndpointId.1": of("vpcEndpointId", made)})


def test_a_refused_reload_is_shown_with_its_reason(gateway, page):
    """The quickstart has no file that could be read again."""
    status, text = lab.request(lab.ADMIN, "POST", "/v1/reload")
    assert status != 200
    page.click("Reload config")
    page.shows("#notices", "The config was not reloaded: " + json.loads(text)["message"][:40])


def test_names_from_other_users_are_not_interpreted_as_html(gateway, page):
    """A name that would be markup elsewhere."""
    name = "<img src=x onerror=alert(1)>"
    status, text = lab.request(lab.ADMIN, "POST", "/v1/faults", {"name": name, "type": "slow-close", "delay": "1ms"})
    assert status == 201, text
    page.shows("#fault-rows", name)
    assert page.js("return document.querySelectorAll('main img, main script').length") == 0
    page.click(f"Switch off {name}")
    page.shows("#fault-rows", "No fault")


# ---- for whom ------------------------------------------------------------------------------------------------------


def test_everything_can_be_done_by_keys(gateway, page):
    from selenium.webdriver.common.keys import Keys

    page.open(CONSOLE)
    page.ready()
    page.press(Keys.TAB)
    assert page.driver.switch_to.active_element.text == "Skip to content"
    page.press(Keys.ENTER)
    before = port_of("Cluster0/shard-00-01")
    page.tab_to("Move port of Cluster0/shard-00-01")
    page.press(Keys.ENTER)
    page.press("3000", Keys.ENTER)
    page.shows("#notices", f"moved from port {before} to port 3000")
    leads_to_a_target(3000)
    # The dialog gives the focus back.
    focused = page.driver.switch_to.active_element
    assert focused.text.startswith("Move port"), focused.text
    page.tab_to("Restrict Access")
    page.press(Keys.SPACE)
    lab.eventually("the app is open", lambda: same(app_status, 200))
    page.shows("#notices", "from outside the VPC too")
    assert page.driver.switch_to.active_element.get_attribute("aria-checked") == "false"
    page.press(Keys.SPACE)
    lab.eventually("the app is restricted", lambda: same(app_status, 404))
    page.tab_to("What goes wrong")
    page.press("Refuse")
    page.tab_to("Switch on")
    page.press(Keys.ENTER)
    page.shows("#fault-rows", "refuse-1")
    page.tab_to("Switch off refuse-1")
    page.press(Keys.ENTER)
    page.shows("#fault-rows", "No fault")
    # Its row is gone; the focus isn't lost with it.
    assert page.js("return document.activeElement !== document.body")
    page.tab_to(f"Shift away us-east-1a of {SERVICE}")
    page.press(Keys.SPACE)
    page.shows("#notices", "shifted away from us-east-1a")
    assert ask(HOST, "A") == [ADDRESSES["us-east-1b"]]
    page.press(Keys.SPACE)
    page.shows("#notices", "us-east-1a is used again")
    page.click("Move port of Cluster0/shard-00-01")
    page.press(Keys.ESCAPE)
    assert not page.js("return document.getElementById('move').open")


def test_axe_finds_nothing_in_light_and_dark_wide_and_narrow(gateway, page):
    held = tls((ADDRESSES["us-east-1a"], port_of("Cluster0/shard-00-02")))
    status, text = lab.request(lab.ADMIN, "POST", "/v1/faults", {"name": "slow", "type": "slow-close", "delay": "1ms"})
    assert status == 201, text
    page.shows("#fault-rows", "slow")
    page.shows("#flow-rows", "Cluster0/shard-00-02")
    for scheme in ("light", "dark"):
        page.prefer(scheme)
        for size in (WIDE, NARROW):
            page.resize(size)
            found = page.axe()
            assert not found, f"{scheme} {size}: " + "\n".join(found)
            wide = page.js(
                "return [document.documentElement, ...document.querySelectorAll('.frame, .scroll, #picture')]"
                ".filter(box => box.scrollWidth > box.clientWidth).map(box => box.outerHTML.slice(0, 80))"
            )
            assert not wide, f"{scheme}: wider than a window of {size[0]}: {wide}"
        page.resize(WIDE)
        page.click("Move port of Cluster0/shard-00-02")
        found = page.axe()
        assert not found, f"{scheme}, dialog: " + "\n".join(found)
        page.click("Cancel")
    lab.request(lab.ADMIN, "DELETE", "/v1/faults")
    held.close()


def test_light_and_dark_follow_the_system_until_one_is_chosen(gateway, page):
    def ground():
        """How bright the page's ground is, 0 to 255."""
        return page.js("return getComputedStyle(document.body).backgroundColor.match(/\\d+/g).slice(0, 3).reduce((a, b) => a + +b, 0) / 3")

    page.prefer("light")
    assert ground() > 200
    page.prefer("dark")
    assert ground() < 60
    page.choose("Theme", "Light")
    assert ground() > 200
    page.open(CONSOLE)
    assert ground() > 200, "the choice outlives the page"
    page.choose("Theme", "Dark")
    page.prefer("light")
    assert ground() < 60
    page.choose("Theme", "System theme")
    assert ground() > 200
    page.ready()


def test_a_page_of_another_site_moves_and_frames_nothing(gateway, page):
    class Elsewhere(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            body = b"<!doctype html><title>elsewhere</title><iframe></iframe>"
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Elsewhere)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    before = port_of("Cluster0/shard-00-00")
    other = Page("http://127.0.0.1:{}/".format(server.server_address[1]))
    try:
        url = f"{CONSOLE}v1/targets/Cluster0/shard-00-00/move"
        done = other.driver.execute_async_script(
            "fetch(arguments[0], {method: 'POST', mode: 'no-cors', body: '{}'}).then(r => arguments[1](r.type), e => arguments[1](String(e)))", url
        )
        assert done == "opaque" or "TypeError" in done, done
        assert port_of("Cluster0/shard-00-00") == before
        framed = other.driver.execute_async_script(
            "const f = document.querySelector('iframe'); f.onload = () => arguments[1](f.contentDocument === null ? 'shut' : 'empty'); f.src = arguments[0]",
            CONSOLE,
        )
        assert framed == "shut"
        other.driver.switch_to.frame(0)
        assert not other.driver.find_elements("css selector", "#overview"), "the console is in a frame"
    finally:
        other.close()
        server.shutdown()


def test_the_browser_logged_no_errors(gateway, page):
    """After everything above: no script failed, nothing was against the policy."""
    assert page.complaints(network=False) == []


# ---- when the gateway is gone, or asks who it is -------------------------------------------------------------------


def test_a_lost_gateway_is_a_banner_until_it_is_back(gateway, page):
    gateway.kill()
    page.shows("#banner", "The gateway doesn't answer")
    page.shows("#state", "lost")
    assert page.row("target-rows", "Cluster0/shard-00-01"), "what it last said stays"
    again = lab.quickstart("--state-in-memory")
    page.ready()
    lab.eventually("the banner is gone", lambda: same(lambda: page.find("#banner").is_displayed(), False))
    assert page.row("target-rows", "Cluster0/shard-00-01")[1] == "1025"
    assert again.stop() == 0, again.tail()


def test_with_a_token_nothing_is_read_or_written_without_it():
    secrets = {"PLGW_ADMIN_PUBLIC_KEY": "public", "PLGW_ADMIN_PRIVATE_KEY": "private", "PLGW_ADMIN_TOKEN": "correct horse"}
    os.environ.update(secrets)
    try:
        gateway = lab.Gateway("quickstart", "--dns", "127.0.0.1:53", "--state-in-memory")
    finally:
        for name in secrets:
            del os.environ[name]
    page = Page()
    try:
        lab.eventually("the token is asked for", lambda: same(lambda: page.find("#token").is_displayed(), True))
        assert page.axe() == []
        assert page.driver.find_elements("css selector", "#target-rows tr") == []
        page.write("Token", "wrong")
        page.click("Continue")
        page.shows("#token-problem", "not this gateway's token")
        assert lab.request(lab.ADMIN, "POST", "/v1/targets/Cluster0/shard-00-00/move", {})[0] == 401
        page.write("Token", "correct horse")
        page.click("Continue")
        page.ready()
        page.click("Move port of Cluster0/shard-00-00")
        page.click("Move")
        page.shows("#notices", "to port 1028")
        leads_to_a_target(1028)
        # It stays for the tab, not in the address, and not for the next visit.
        page.open(CONSOLE)
        page.ready()
        assert page.js("return localStorage.length") == 0 and page.driver.current_url == CONSOLE
        page.click("Forget token")
        lab.eventually("it is asked for again", lambda: same(lambda: page.find("#token").is_displayed(), True))
        assert page.complaints(network=False) == []
    finally:
        page.close()
    assert gateway.stop() == 0, gateway.tail()


# ---- pictures ------------------------------------------------------------------------------------------------------


def test_screenshots(gateway):
    """Of a quickstart that carries something."""
    import pymongo

    where = pathlib.Path(sys.argv[sys.argv.index("--screenshots") + 1])
    stop = threading.Event()

    def load(string, pause):
        client = pymongo.MongoClient(string, tls=True, tlsCAFile=str(lab.ca()))
        n = 0
        while not stop.wait(pause):
            n += 1
            # More and less in turn, so that the curves have something to show.
            client.lab.notes.insert_one({"n": n, "text": "x" * int(1000 + 900 * math.sin(n / 60) + n * 7919 % 700)})
        client.close()

    strings = lab.api("GET", "/v1/connection-strings")["connection_strings"]
    loads = [(one["private"][0]["srv_connection_string"], 0.03 * (n + 1)) for n, one in enumerate(strings)]
    for one in loads:
        threading.Thread(target=load, args=one, daemon=True).start()
    status, text = lab.request(lab.ADMIN, "POST", "/v1/faults", {"name": "lost-host", "type": "target-down", "silent": True, "target": "Cluster0/shard-00-02"})
    assert status == 201, text
    page = Page(size=(1200, 820)).ready()
    # As long as its curves reach back.
    stop.wait(110)
    for cluster in ("Cluster0/", "Sharded0/"):
        assert lab.metric("plgw_active_flows", f'target="{cluster}') > 0, f"no client uses {cluster}"
    for scheme in ("light", "dark"):
        page.prefer(scheme)
        page.driver.save_screenshot(str(where / f"console-{scheme}.png"))
        size = (where / f"console-{scheme}.png").stat().st_size
        assert size < 150_000, f"{scheme}: {size} bytes"
    stop.set()
    page.close()


if __name__ == "__main__":
    pictures = "--screenshots" in sys.argv
    if pictures:
        # Separate namespaces have separate directories, too.
        at = sys.argv.index("--screenshots") + 1
        sys.argv[at] = str(pathlib.Path(sys.argv[at]).resolve())
    lab.main({name: it for name, it in globals().items() if not name.startswith("test_") or (name == "test_screenshots") == pictures})
