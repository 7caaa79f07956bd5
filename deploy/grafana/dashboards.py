#!/usr/bin/env python3
"""Writes the dashboards of this directory: `python3 dashboards.py`. Standard library only.

A dashboard here is rows of panels, a panel a question with its queries; ids, places and the many fields of Grafana's JSON
follow from that. The JSON files are what Grafana is given; a test fails when they are not what this writes.
"""

import json
import pathlib

HERE = pathlib.Path(__file__).resolve().parent / "dashboards"

GREEN, YELLOW, RED, BLUE = "green", "yellow", "red", "blue"
# A client's connection is known by its endpoint, a server's by its target.
FLOWS = 'job=~"$job",endpoint=~"$endpoint"'
TARGETS = 'job=~"$job",service=~"$service",target=~"$target"'
ALL = 'job=~"$job"'


def steps(*pairs):
    """Thresholds: the first colour holds from the start, each further one from its value on."""
    return {"mode": "absolute", "steps": [{"color": color, "value": value} for color, value in pairs]}


GOOD_IF_ONE = steps((RED, None), (GREEN, 1))
BAD_IF_ANY = steps((GREEN, None), (RED, 1))
NEAR = steps((GREEN, None), (YELLOW, 0.8), (RED, 0.9))
PLAIN = steps((BLUE, None))
UP_DOWN = [{"type": "value", "options": {"0": {"text": "no", "color": RED}, "1": {"text": "yes", "color": GREEN}}}]


def panel(kind, title, question, queries, width=8, height=8, unit="short", thresholds=None, mappings=None, **more):
    """A panel: `queries` are pairs of PromQL and legend; `question` is what it answers."""
    defaults = {
        "unit": unit,
        "thresholds": thresholds or PLAIN,
        "mappings": mappings or [],
        "color": {"mode": "palette-classic" if kind == "timeseries" else "thresholds"},
        "custom": {},
    }
    defaults.update(more.pop("defaults", {}))
    if kind == "timeseries":
        stacked = more.pop("stacked", False)
        defaults["custom"] = {
            "drawStyle": "line",
            "lineInterpolation": "stepAfter" if more.pop("steps", False) else "linear",
            "lineWidth": 1,
            "fillOpacity": 25 if stacked else 8,
            "showPoints": "never",
            "spanNulls": False,
            "stacking": {"mode": "normal" if stacked else "none", "group": "A"},
        }
        options = {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        }
    elif kind == "stat":
        options = {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "colorMode": "value",
            "graphMode": "none",
            "textMode": more.pop("text", "auto"),
            "orientation": "auto",
            "justifyMode": "auto",
        }
    elif kind == "bargauge":
        options = {
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "displayMode": "basic",
            "orientation": "horizontal",
            "showUnfilled": True,
        }
    elif kind == "table":
        options = {"showHeader": True, "cellHeight": "sm"}
    else:
        raise ValueError(f"{kind} is no kind of panel")
    instant = kind != "timeseries"
    made = {
        "type": kind,
        "title": title,
        "description": question,
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": options,
        "targets": [
            {
                "refId": chr(ord("A") + n),
                "datasource": {"type": "prometheus", "uid": "${datasource}"},
                "expr": expr,
                "legendFormat": legend,
                "instant": instant,
                "range": not instant,
                **({"format": "table"} if kind == "table" else {}),
            }
            for n, (expr, legend) in enumerate(queries)
        ],
        "gridPos": {"w": width, "h": height},
    }
    if kind == "table":
        made["transformations"] = [
            {"id": "merge", "options": {}},
            {
                "id": "organize",
                "options": {
                    "excludeByName": {"Time": True, "job": True, "instance": True, "__name__": True,
                                      **({} if "Value" in more.get("rename", {}) else {"Value": True})},
                    "renameByName": more.pop("rename", {}),
                },
            },
        ]
    made.update(more)
    return made


def stat(title, question, expr, legend="", **more):
    return panel("stat", title, question, [(expr, legend)], **{"width": 4, "height": 4, **more})


def lines(title, question, *queries, **more):
    return panel("timeseries", title, question, list(queries), **more)


def row(title):
    return {"type": "row", "title": title, "collapsed": False, "panels": [], "gridPos": {"w": 24, "h": 1}}


def variable(name, label, query, multi=True):
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": {"type": "prometheus", "uid": "${datasource}"},
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "sort": 1,
        "multi": multi,
        "includeAll": True,
        "allValue": ".*",
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "hide": 0,
        "options": [],
    }


JOB = variable("job", "Job", "label_values(plgw_build_info, job)")
ENDPOINT = variable("endpoint", "Endpoint", 'label_values(plgw_active_flows{job=~"$job"}, endpoint)')
SERVICE = variable("service", "Service", 'label_values(plgw_listener_port{job=~"$job"}, service)')
TARGET = variable("target", "Target", 'label_values(plgw_listener_port{job=~"$job",service=~"$service"}, target)')
APP = variable("app", "App", 'label_values(plgw_app_requests_total{job=~"$job"}, app)')


def place(panels):
    """Gives every panel its number and its place: from left to right, then on the next line."""
    x = y = line = 0
    for number, one in enumerate(panels, 1):
        box = one["gridPos"]
        if x + box["w"] > 24:
            x, y, line = 0, y + line, 0
        one["id"] = number
        one["gridPos"] = {"h": box["h"], "w": box["w"], "x": x, "y": y}
        x, line = x + box["w"], max(line, box["h"])
    return panels


def dashboard(uid, title, description, variables, panels):
    return {
        "uid": f"plgw-{uid}",
        "title": f"plgw / {title}",
        "description": description,
        "tags": ["plgw", "privatelink"],
        "schemaVersion": 39,
        "version": 1,
        "editable": True,
        "graphTooltip": 1,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "fiscalYearStartMonth": 0,
        "annotations": {
            "list": [
                {
                    "name": "Alerts",
                    "datasource": {"type": "prometheus", "uid": "${datasource}"},
                    "enable": True,
                    "expr": 'ALERTS{alertstate="firing",alertname=~"Plgw.*"}',
                    "iconColor": "red",
                    "titleFormat": "{{alertname}}",
                    "step": "15s",
                }
            ]
        },
        "links": [
            {
                "type": "dashboards",
                "title": "plgw",
                "tags": ["plgw"],
                "asDropdown": True,
                "keepTime": True,
                "includeVars": True,
            }
        ],
        "templating": {
            "list": [
                {
                    "name": "datasource",
                    "label": "Data source",
                    "type": "datasource",
                    "query": "prometheus",
                    "current": {"selected": True, "text": "Prometheus", "value": "prometheus"},
                    "hide": 0,
                    "includeAll": False,
                    "multi": False,
                    "options": [],
                    "refresh": 1,
                },
                *variables,
            ]
        },
        "panels": place(panels),
    }


OVERVIEW = dashboard(
    "overview",
    "Overview",
    "Is it healthy, who is connected, what was refused and why, which zone, how near are the limits.",
    [JOB, ENDPOINT],
    [
        row("Is it healthy"),
        stat("Gateway", "Does every gateway answer a scrape?", f"min(up{{{ALL}}})", mappings=UP_DOWN,
             thresholds=GOOD_IF_ONE),
        stat("Targets down", "How many targets have no healthy member?",
             f"count((plgw:unhealthy_hosts{{{ALL}}} > 0) and (plgw:healthy_hosts{{{ALL}}} == 0)) or vector(0)",
             thresholds=BAD_IF_ANY),
        stat("Zones in DNS", "In how many zones are the endpoint's addresses answered?",
             f"sum(plgw_zonal_health{{{ALL}}})", thresholds=GOOD_IF_ONE),
        stat("Endpoints connected", "How many interface endpoints are available?",
             f'sum(plgw_endpoints{{{ALL},state="available"}})', thresholds=GOOD_IF_ONE),
        stat("Last reload", "Is the config in force the one in the file?", f"min(plgw_reload_last_ok{{{ALL}}})",
             mappings=[{"type": "value", "options": {"0": {"text": "refused", "color": RED},
                                                     "1": {"text": "applied", "color": GREEN}}}],
             thresholds=GOOD_IF_ONE),
        stat("Alerts", "How many alerts fire?", 'count(ALERTS{alertstate="firing",alertname=~"Plgw.*"}) or vector(0)',
             thresholds=BAD_IF_ANY),
        row("Who is connected"),
        lines("Open flows", "How many flows are open, through which endpoint?",
              (f"sum by (endpoint) (plgw_active_flows{{{FLOWS}}})", "{{endpoint}}"), stacked=True),
        lines("New flows", "How many flows begin each second, in which zone?",
              (f"sum by (zone) (rate(plgw_flows_opened_total{{{FLOWS}}}[$__rate_interval]))", "{{zone}}"),
              unit="cps"),
        lines("Throughput", "How much is carried which way?",
              (f"sum by (direction) (rate(plgw_processed_bytes_total{{{FLOWS}}}[$__rate_interval]))", "{{direction}}"),
              unit="Bps"),
        row("What was refused, and why"),
        lines("Refused", "Who is not let in, and why?",
              (f"sum by (reason) (rate(plgw_refused_flows_total{{{FLOWS}}}[$__rate_interval])) > 0", "{{reason}}"),
              unit="cps", stacked=True),
        lines("How flows ended", "Do clients and targets close in order?",
              (f"sum by (end) (rate(plgw_flows_closed_total{{{FLOWS}}}[$__rate_interval])) > 0", "{{end}}"),
              unit="cps", stacked=True),
        lines("Resets", "Who resets: client, target, or the load balancer?",
              (f"sum by (origin) (rate(plgw_tcp_resets_total{{{FLOWS}}}[$__rate_interval]))", "{{origin}}"),
              unit="cps"),
        row("Which target, which zone"),
        lines("Healthy members of each target", "Which target is down, and since when?",
              (f"plgw:healthy_hosts{{{ALL}}}", "{{target}}"), steps=True, defaults={"min": 0, "decimals": 0}),
        lines("Zonal health", "Which zone is in DNS? 1 is healthy.",
              (f"min by (zone) (plgw_zonal_health{{{ALL}}})", "{{zone}}"), steps=True,
              defaults={"min": 0, "max": 1, "decimals": 0}),
        lines("DNS answers", "Are names answered?",
              (f"sum by (rcode) (rate(plgw_dns_queries_total{{{ALL}}}[$__rate_interval])) > 0", "{{rcode}}"),
              unit="reqps", stacked=True),
        row("How near are the limits"),
        panel("bargauge", "Limits", "How much of what there may be is there?",
              [(f"max(plgw:target_slots:ratio{{{ALL}}})", "addressable targets"),
               (f"max(plgw:target_flows:ratio{{{ALL}}})", "flows of the fullest target"),
               (f"max(process_open_fds{{{ALL}}} / process_max_fds{{{ALL}}})", "descriptors")],
              unit="percentunit", thresholds=NEAR, defaults={"min": 0, "max": 1}, width=8),
        lines("App Services requests", "What do requests to apps come to?",
              (f"sum by (verdict, status) (rate(plgw_app_requests_total{{{ALL}}}[$__rate_interval])) > 0",
               "{{verdict}} {{status}}"), unit="reqps", stacked=True),
        lines("Time that targets take to accept", "Are targets slow?",
              (f"histogram_quantile(0.5, sum by (le) (rate(plgw_connect_duration_seconds_bucket{{{ALL}}}"
               "[$__rate_interval])))", "median"),
              (f"histogram_quantile(0.99, sum by (le) (rate(plgw_connect_duration_seconds_bucket{{{ALL}}}"
               "[$__rate_interval])))", "99 %"), unit="s"),
        lines("Time to the first byte", "What do clients wait for, faults included?",
              (f"histogram_quantile(0.5, sum by (le) (rate(plgw_first_byte_duration_seconds_bucket{{{ALL}}}"
               "[$__rate_interval])))", "median"),
              (f"histogram_quantile(0.99, sum by (le) (rate(plgw_first_byte_duration_seconds_bucket{{{ALL}}}"
               "[$__rate_interval])))", "99 %"), unit="s"),
    ],
)

ENDPOINTS = dashboard(
    "endpoint",
    "Endpoint",
    "One interface endpoint: what CloudWatch shows in AWS/PrivateLinkEndpoints, by zone.",
    [JOB, ENDPOINT],
    [
        panel("table", "Endpoints", "Which VPC and service does an endpoint belong to?",
              [(f"plgw_endpoint_info{{{FLOWS}}} == 1", "")], width=24, height=5,
              rename={"endpoint": "Endpoint", "service": "Service", "vpc": "VPC"}),
        row("Flows"),
        lines("Active connections", "ActiveConnections: how many are open, in which zone?",
              (f"sum by (endpoint, zone) (plgw_active_flows{{{FLOWS}}})", "{{endpoint}} {{zone}}"), width=12,
              stacked=True),
        lines("New connections", "NewConnections: how many begin?",
              (f"sum by (endpoint, zone) (rate(plgw_flows_opened_total{{{FLOWS}}}[$__rate_interval]))",
               "{{endpoint}} {{zone}}"), width=12, unit="cps"),
        lines("Bytes processed", "BytesProcessed: how much is carried?",
              (f"sum by (endpoint, direction) (rate(plgw_processed_bytes_total{{{FLOWS}}}[$__rate_interval]))",
               "{{endpoint}} {{direction}}"), width=12, unit="Bps"),
        lines("Peak throughput", "PeakBytesPerSecond: how high is the load at its highest?",
              (f"plgw_peak_bytes_per_second{{{FLOWS}}}", "{{endpoint}} {{zone}}"), width=12, unit="Bps", steps=True),
        row("Refusals and resets"),
        lines("Refused", "PacketsDropped and RejectedFlowCount: who is not let in, and why?",
              (f"sum by (reason) (increase(plgw_refused_flows_total{{{FLOWS}}}[$__rate_interval])) > 0", "{{reason}}"),
              width=12, stacked=True),
        lines("RST packets received", "RstPacketsReceived: rising resets from the service are an unhealthy service.",
              (f'sum by (endpoint, origin) (rate(plgw_tcp_resets_total{{{FLOWS},origin=~"target|elb"}}'
               "[$__rate_interval]))", "{{endpoint}} {{origin}}"), width=12, unit="cps"),
        lines("Port allocation errors", "Is there no source port towards a target?",
              (f"sum by (endpoint) (increase(plgw_port_allocation_errors_total{{{FLOWS}}}[$__rate_interval]))",
               "{{endpoint}}"), width=12),
        lines("Flows that went to unhealthy targets", "UnhealthyRoutingFlowCount: how many flows did fail-open let through?",
              (f"sum by (endpoint, zone) (increase(plgw_unhealthy_routing_flows_total{{{FLOWS}}}[$__rate_interval]))",
               "{{endpoint}} {{zone}}"), width=12),
    ],
)

TARGET_DASHBOARD = dashboard(
    "target",
    "Target",
    "One addressable target: its port, its health by zone, its flows and how near it is to its limit.",
    [JOB, SERVICE, TARGET],
    [
        panel("table", "Targets", "Which port does a target have?", [(f"plgw_listener_port{{{TARGETS}}} > 0", "")],
              width=12, height=7, rename={"service": "Service", "target": "Target", "Value": "Port"}),
        panel("bargauge", "Flows, of those that it may hold", "Will connections be dropped soon?",
              [('plgw:target_flows:ratio{job=~"$job",target=~"$target"}', "{{target}}")], unit="percentunit",
              thresholds=NEAR, defaults={"min": 0, "max": 1}, width=12, height=7),
        row("Health"),
        lines("Healthy hosts", "HealthyHostCount: in which zone?",
              (f"plgw_healthy_hosts{{{TARGETS}}}", "{{target}} {{zone}}"), width=8, steps=True, defaults={"min": 0}),
        lines("Unhealthy hosts", "UnHealthyHostCount: in which zone?",
              (f"plgw_unhealthy_hosts{{{TARGETS}}}", "{{target}} {{zone}}"), width=8, steps=True, defaults={"min": 0}),
        lines("Members by state", "Are members draining or not yet checked?",
              ('sum by (state) (plgw_targets{job=~"$job",service=~"$service"}) > 0', "{{state}}"), width=8, steps=True,
              stacked=True),
        row("Flows"),
        lines("Open flows", "How many flows does it hold?",
              ('sum by (target) (plgw_active_flows{job=~"$job",target=~"$target"})', "{{target}}"), stacked=True),
        lines("New flows", "How many begin?",
              ('sum by (target) (rate(plgw_flows_opened_total{job=~"$job",target=~"$target"}[$__rate_interval]))',
               "{{target}}"), unit="cps"),
        lines("Throughput", "How much does it carry?",
              ('sum by (target, direction) (rate(plgw_processed_bytes_total{job=~"$job",target=~"$target"}'
               "[$__rate_interval]))", "{{target}} {{direction}}"), unit="Bps"),
        lines("How flows ended", "Is it unreachable, or does it reset?",
              ('sum by (end) (rate(plgw_flows_closed_total{job=~"$job",target=~"$target"}[$__rate_interval])) > 0',
               "{{end}}"), unit="cps", stacked=True),
        lines("Time to accept, 99 %", "Is it slow?",
              ('histogram_quantile(0.99, sum by (le, target) (rate(plgw_connect_duration_seconds_bucket'
               '{job=~"$job",target=~"$target"}[$__rate_interval])))', "{{target}}"), unit="s"),
        lines("Time to the first byte, 99 %", "What do its clients wait for?",
              ('histogram_quantile(0.99, sum by (le, target) (rate(plgw_first_byte_duration_seconds_bucket'
               '{job=~"$job",target=~"$target"}[$__rate_interval])))', "{{target}}"), unit="s"),
        lines("How long flows last", "Do clients keep their connections?",
              ('histogram_quantile(0.5, sum by (le) (rate(plgw_flow_duration_seconds_bucket'
               '{job=~"$job",target=~"$target"}[$__rate_interval])))', "median"),
              ('histogram_quantile(0.95, sum by (le) (rate(plgw_flow_duration_seconds_bucket'
               '{job=~"$job",target=~"$target"}[$__rate_interval])))', "95 %"), unit="s"),
        row("Limits"),
        lines("Addressable targets", "How many of the 50 are taken?",
              ('plgw_target_slots_used{job=~"$job",service=~"$service"}', "{{service}} used"),
              ('plgw_target_slots_limit{job=~"$job",service=~"$service"}', "{{service}} limit"), width=12, steps=True),
        lines("Load balancer capacity units", "What would AWS bill? The largest dimension counts.",
              ('plgw:lcu_dimension{job=~"$job",service=~"$service"}', "{{service}} {{dimension}}"), width=12),
    ],
)

APPS = dashboard(
    "app-services",
    "App Services",
    "Requests to apps: verdicts, origins, times, WebSockets.",
    [JOB, APP],
    [
        lines("Requests by verdict", "Who is let in, and who is not?",
              ('sum by (verdict) (rate(plgw_app_requests_total{job=~"$job",app=~"$app"}[$__rate_interval]))',
               "{{verdict}}"), unit="reqps", width=12, stacked=True),
        lines("Requests by status", "Do requests succeed?",
              ('sum by (status) (rate(plgw_app_requests_total{job=~"$job",app=~"$app"}[$__rate_interval]))',
               "{{status}}"), unit="reqps", width=12, stacked=True),
        lines("Requests by origin and path", "Do they come by the private endpoint?",
              ('sum by (endpoint, origin) (rate(plgw_app_requests_total{job=~"$job",app=~"$app"}[$__rate_interval]))',
               "{{endpoint}} from {{origin}}"), unit="reqps", width=12),
        lines("Time to answer", "Is the backend slow?",
              ('histogram_quantile(0.5, sum by (le, app) (rate(plgw_app_request_duration_seconds_bucket'
               '{job=~"$job",app=~"$app"}[$__rate_interval])))', "{{app}} median"),
              ('histogram_quantile(0.99, sum by (le, app) (rate(plgw_app_request_duration_seconds_bucket'
               '{job=~"$job",app=~"$app"}[$__rate_interval])))', "{{app}} 99 %"), unit="s", width=12),
        row("Connections"),
        lines("Connections", "How many connections are taken, by type of endpoint?",
              (f"sum by (endpoint) (rate(plgw_app_connections_total{{{ALL}}}[$__rate_interval]))", "{{endpoint}}"),
              unit="cps"),
        lines("Refused connections", "Who does not get as far as TLS?",
              (f"sum by (endpoint, reason) (rate(plgw_app_refused_connections_total{{{ALL}}}[$__rate_interval]))",
               "{{endpoint}} {{reason}}"), unit="cps"),
        lines("TLS handshakes that failed", "ClientTLSNegotiationErrorCount: do clients trust the certificate?",
              (f"sum by (instance) (rate(plgw_app_tls_failures_total{{{ALL}}}[$__rate_interval]))", "{{instance}}"),
              unit="cps"),
        row("WebSockets"),
        lines("Open WebSockets", "How many sync clients are connected?",
              ('sum by (app, endpoint) (plgw_app_websockets_open{job=~"$job",app=~"$app"})', "{{app}} {{endpoint}}"),
              stacked=True),
        lines("WebSockets ended", "How do they end?",
              ('sum by (end) (rate(plgw_app_websockets_closed_total{job=~"$job",app=~"$app"}[$__rate_interval]))',
               "{{end}}"), unit="cps", stacked=True),
        lines("WebSocket throughput", "How much do they carry?",
              ('sum by (direction) (rate(plgw_app_websocket_bytes_total{job=~"$job",app=~"$app"}[$__rate_interval]))',
               "{{direction}}"), unit="Bps"),
    ],
)

DNS = dashboard(
    "dns",
    "DNS",
    "The resolver: who asks what, what is answered, how fast.",
    [JOB],
    [
        lines("Answers by code", "Do names resolve? SERVFAIL is an upstream, or a fault; REFUSED is the service's side.",
              (f"sum by (rcode) (rate(plgw_dns_queries_total{{{ALL}}}[$__rate_interval])) > 0", "{{rcode}}"),
              unit="reqps", width=12, stacked=True),
        lines("Questions by type", "What is asked: SRV and TXT are seed lists.",
              (f"sum by (type) (rate(plgw_dns_queries_total{{{ALL}}}[$__rate_interval])) > 0", "{{type}}"),
              unit="reqps", width=12, stacked=True),
        lines("Questions by view", "Who asks: a VPC, or the public?",
              (f"sum by (view) (rate(plgw_dns_queries_total{{{ALL}}}[$__rate_interval])) > 0", "{{view}}"),
              unit="reqps", width=12, stacked=True),
        lines("Time to answer", "How fast?",
              (f"histogram_quantile(0.5, sum by (le) (rate(plgw_dns_answer_duration_seconds_bucket{{{ALL}}}"
               "[$__rate_interval])))", "median"),
              (f"histogram_quantile(0.99, sum by (le) (rate(plgw_dns_answer_duration_seconds_bucket{{{ALL}}}"
               "[$__rate_interval])))", "99 %"), unit="s", width=12),
        lines("Forwarded", "What became of questions asked upstream?",
              (f"sum by (outcome) (rate(plgw_dns_forwarded_total{{{ALL}}}[$__rate_interval]))", "{{outcome}}"),
              unit="reqps", width=12),
        lines("Noise", "How many messages are no question?",
              (f"sum by (instance) (rate(plgw_dns_malformed_packets_total{{{ALL}}}[$__rate_interval]))",
               "{{instance}}"), unit="cps", width=12),
        lines("Snapshot in force", "When did the inventory change? DNS answers from it.",
              (f"plgw_snapshot_generation{{{ALL}}}", "{{instance}}"), width=24, height=5, steps=True),
    ],
)

DASHBOARDS = {
    "overview": OVERVIEW,
    "endpoint": ENDPOINTS,
    "target": TARGET_DASHBOARD,
    "app-services": APPS,
    "dns": DNS,
}


def files():
    """The files' texts by path."""
    return {HERE / f"{name}.json": json.dumps(made, indent=2) + "\n" for name, made in DASHBOARDS.items()}


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text)
