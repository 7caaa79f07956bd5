// The picture: hosts of the VPCs, endpoint addresses by zone, ports of targets, their members; health by colour, live flows as
// lines. The tables have the same information, so a screen reader gets a summary only.

import { byId, mark } from "./dom.js";
import { count } from "./format.js";
import { svg } from "./sparkline.js";
import { badness } from "./table.js";
import { isWell } from "./zones.js";

/** Up to this many targets are drawn one by one; of more, healthy ones without a flow are one line. */
const ALL = 24;

/** The maximum of client hosts drawn per VPC; the others are counted. */
const HOSTS = 6;

/** Below this width the picture is a list. */
const NARROW = 640;

/** Pixels of a character, of the monospaced font at 11 px. */
const CHARACTER = 6.7;

let now = null;
let drawn = "";

export function start() {
  new ResizeObserver(() => now && show(now)).observe(byId("picture"));
}

export function show(latest) {
  now = latest;
  const width = Math.floor(byId("picture").clientWidth);
  const model = modelOf(now);
  const key = JSON.stringify([width, model]);
  if (key === drawn || width === 0) return;
  drawn = key;
  const { parts, height } = (width < NARROW ? list : picture)(model, width);
  const image = svg("svg", { class: "map", viewBox: `0 0 ${width} ${height}`, width, height, role: "img" }, ...parts);
  mark(image, "aria-label", summary(model));
  byId("picture").replaceChildren(image);
}

function modelOf({ services, zones, targets, flows }) {
  const open = flows ?? [];
  const endpoints = services.filter(({ kind }) => kind === "atlas").flatMap(({ id, endpoints }) => endpoints.map((endpoint) => ({ ...endpoint, service: id })));
  const addresses = endpoints.flatMap(({ id, vpc, service, addresses }) =>
    addresses.map(({ zone, ip }) => {
      const view = zones.find((one) => one.service === service && one.zone === zone);
      const isIn = view?.addresses.some((one) => one.ip === ip && one.in_dns) ?? false;
      const state = view && !isWell(view) ? "bad" : isIn ? "good" : "pending";
      const says = view?.outages.length ? "outage" : view?.shifted ? "shifted away" : isIn ? "in DNS" : "not in DNS";
      return { id: ip, endpoint: id, vpc, service, zone, state, says };
    }),
  );
  const isPublic = open.some(({ endpoint }) => endpoint === "public");
  if (isPublic) addresses.push({ id: "public", endpoint: "public", vpc: "Internet", service: "", zone: "public addresses", state: "good", says: "" });
  const ipOf = (listener) => listener.replace(/:\d+$/, "").replace(/^\[|\]$/g, "");
  const addressOf = (flow) => (flow.endpoint === "public" ? "public" : ipOf(flow.listener));
  const hosts = new Map();
  const vpcOf = new Map(addresses.map(({ id, vpc }) => [id, vpc]));
  for (const vpc of new Set(addresses.map(({ vpc }) => vpc))) hosts.set(vpc, new Map());
  const [inner, outer] = [new Map(), new Map()];
  const add = (map, ...key) => map.set(key.join(" "), (map.get(key.join(" ")) ?? 0) + 1);
  for (const flow of open) {
    const vpc = vpcOf.get(addressOf(flow));
    if (!vpc) continue;
    const host = ipOf(flow.client);
    const known = hosts.get(vpc);
    known.set(host, (known.get(host) ?? 0) + 1);
    add(outer, vpc, known.size > HOSTS && [...known.keys()].indexOf(host) >= HOSTS ? "…" : host, addressOf(flow));
    add(inner, addressOf(flow), flow.target);
  }
  const rows = targets.map(({ id, service, port, state, members, paused }) => {
    const well = members.filter((member) => member.state === "healthy" && !member.reach).length;
    const look = paused ? "pending" : well === members.length ? "good" : well === 0 && badness(state) <= 1 ? "bad" : state === "healthy" || well ? "pending" : badness(state) <= 1 ? "bad" : "pending";
    const [first] = members;
    const of = members.length === 1 ? `${first.zone}  ${first.address}` : `${well} of ${members.length} healthy`;
    const dots = members.map((member) => (member.state === "healthy" && !member.reach ? "good" : member.state.startsWith("unhealthy") || member.reach ? "bad" : "pending"));
    const flows = open.filter((flow) => flow.target === id).length;
    return { id, service, port, look, of, dots, flows };
  });
  const isQuiet = ({ look, flows }) => look === "good" && flows === 0;
  const shown = rows.length <= ALL ? rows : rows.filter((row) => !isQuiet(row));
  return {
    vpcs: [...hosts].map(([vpc, known]) => ({ vpc, hosts: [...known].slice(0, HOSTS).sort(byName), more: Math.max(0, known.size - HOSTS) })),
    addresses, rows: shown, quiet: rows.length - shown.length, all: rows.length,
    bad: rows.filter(({ look }) => look !== "good").length,
    open: open.length, inner: [...inner], outer: [...outer],
  };
}

const byName = ([a], [b]) => a.localeCompare(b, "en", { numeric: true });

function summary({ vpcs, addresses, all, bad, open }) {
  return `${vpcs.length} VPCs, ${addresses.length} endpoint addresses, ${all} targets of which ${bad} are not well, ${open} open flows`;
}

/** A text shortened to the available width; its title has the whole text. */
function text(x, y, content, look, room) {
  const most = Math.max(4, Math.floor(room / CHARACTER));
  const shown = content.length > most ? `${content.slice(0, Math.ceil(most / 2) - 1)}…${content.slice(-(Math.floor(most / 2)))}` : content;
  const element = svg("text", { x, y, class: look }, shown);
  if (shown !== content) element.append(svg("title", {}, content));
  return element;
}

const box = (x, y, width, height, look) => svg("rect", { x, y, width, height, rx: 6, class: `box ${look}` });

/** Shape and colour both show the state. */
function dot(x, y, look) {
  if (look === "bad") return svg("rect", { x: x - 4, y: y - 4, width: 8, height: 8, class: "dot bad" });
  return svg("circle", { cx: x, cy: y, r: look === "pending" ? 3 : 4, class: `dot ${look}` });
}

function line(from, to, flows) {
  const middle = (from[0] + to[0]) / 2;
  return svg("path", {
    class: "flow", d: `M${from[0]} ${from[1]}C${middle} ${from[1]} ${middle} ${to[1]} ${to[0]} ${to[1]}`,
    "stroke-width": Math.min(1 + Math.log2(flows), 5).toFixed(1),
  });
}

const plural = (n, word) => `${count(n)} ${word}${n === 1 ? "" : "s"}`;

function picture(model, width) {
  const [left, middle, right] = [0, width * 0.24, width * 0.5];
  const [hostWidth, addressWidth, rowWidth] = [width * 0.18, width * 0.2, width * 0.5];
  const size = model.rows.length <= 8 ? 34 : model.rows.length <= 16 ? 26 : 20;
  const under = 26;
  const rowsHeight = (model.rows.length + (model.quiet ? 1 : 0)) * size;
  const addressHeight = 44;
  const hostsHeight = model.vpcs.reduce((sum, { hosts, more }) => sum + 44 + Math.max(1, hosts.length + (more ? 1 : 0)) * 20, 0);
  const inside = Math.max(rowsHeight, model.addresses.length * (addressHeight + 10), hostsHeight, 80);
  const parts = [[left, "VPC and hosts"], [middle, "Endpoint addresses"], [right, "Ports and members"]].map(([x, title]) => text(x + 2, 14, title, "title", 200));
  const lines = [];
  // A picture taller than the window is shown from its top.
  const centred = (height) => under + (inside > 420 ? 0 : (inside - height) / 2);

  const addressAt = new Map();
  const gap = 10;
  let y = centred(model.addresses.length * (addressHeight + gap) - gap);
  for (const { id, zone, state, says } of model.addresses) {
    parts.push(box(middle, y, addressWidth, addressHeight, state), dot(middle + 12, y + 15, state), text(middle + 22, y + 19, zone, "strong", addressWidth - 26));
    parts.push(text(middle + 22, y + 35, says ? `${id}  ${says}` : "", "quiet", addressWidth - 26));
    addressAt.set(id, y + addressHeight / 2);
    y += addressHeight + gap;
  }

  const rowAt = new Map();
  y = centred(rowsHeight);
  const top = y;
  for (const { id, port, look, of, dots, flows } of model.rows) {
    const base = y + size / 2 + 4;
    const [portX, nameX, memberX, flowsX] = [right + 12, right + 62, right + rowWidth * 0.47, right + rowWidth - 62];
    parts.push(box(right, y + 1, rowWidth - 2, size - 3, look), text(portX, base, `${port}`, "strong", 48), text(nameX, base, id, "", memberX - nameX - 12));
    dots.slice(0, 5).forEach((state, n) => parts.push(dot(memberX + n * 12, y + size / 2, state)));
    const indent = Math.min(dots.length, 5) * 12;
    parts.push(text(memberX + indent, base, of, "quiet", flowsX - memberX - indent - 6));
    if (flows) parts.push(text(flowsX, base, plural(flows, "flow"), "live", 60));
    rowAt.set(id, y + size / 2);
    y += size;
  }
  if (model.quiet) {
    parts.push(text(right + 12, y + size / 2 + 4, `and ${model.quiet} healthy targets without an open flow`, "quiet", rowWidth - 20));
    y += size;
  }
  // Every address has every port of its load balancer: one line to all of them.
  const bus = right - 14;
  if (model.rows.length && model.addresses.length) {
    for (const at of addressAt.values()) lines.push(svg("path", { class: "wire", d: `M${middle + addressWidth} ${at}H${bus}` }));
    const ends = [...addressAt.values(), ...rowAt.values()];
    lines.push(svg("path", { class: "wire", d: `M${bus} ${Math.min(...ends)}V${Math.max(...ends)}` }));
    for (const at of rowAt.values()) lines.push(svg("path", { class: "wire", d: `M${bus} ${at}H${right}` }));
  }

  const hostAt = new Map();
  y = centred(hostsHeight);
  for (const { vpc, hosts, more } of model.vpcs) {
    const inner = Math.max(1, hosts.length + (more ? 1 : 0)) * 20;
    parts.push(box(left + 1, y, hostWidth, 34 + inner, "neutral"), text(left + 12, y + 20, vpc, "strong", hostWidth - 20));
    let at = y + 40;
    for (const [host, flows] of hosts) {
      parts.push(text(left + 12, at, host, "", hostWidth - 40), text(left + hostWidth - 30, at, count(flows), "live", 28));
      hostAt.set(`${vpc} ${host}`, at - 4);
      at += 20;
    }
    if (more) {
      parts.push(text(left + 12, at, `and ${plural(more, "host")} more`, "quiet", hostWidth - 20));
      hostAt.set(`${vpc} …`, at - 4);
    }
    if (!hosts.length) parts.push(text(left + 12, at, "no open flow", "quiet", hostWidth - 20));
    y += 44 + inner;
  }

  for (const [key, flows] of model.outer) {
    const [vpc, host, address] = key.split(" ");
    lines.push(line([left + hostWidth + 1, hostAt.get(`${vpc} ${host}`)], [middle, addressAt.get(address)], flows));
  }
  for (const [key, flows] of model.inner) {
    const [address, target] = key.split(" ");
    if (rowAt.has(target)) lines.push(line([middle + addressWidth, addressAt.get(address)], [right, rowAt.get(target)], flows));
  }
  return { parts: [...lines, ...parts], height: Math.max(under + inside, top + rowsHeight) + 4 };
}

function list(model, width) {
  const parts = [];
  let y = 0;
  const title = (content) => {
    parts.push(text(2, y + 14, content, "title", width));
    y += 22;
  };
  const row = (look, dots, first, second, end) => {
    parts.push(box(1, y, width - 2, 40, look));
    dots.slice(0, 5).forEach((state, n) => parts.push(dot(12 + n * 12, y + 13, state)));
    const indent = 10 + Math.min(dots.length, 5) * 12;
    parts.push(text(indent, y + 17, first, "strong", width - indent - 75), text(10, y + 33, second, "quiet", width - 16));
    if (end) parts.push(text(width - 68, y + 17, end, "live", 64));
    y += 44;
  };
  title("VPC and hosts");
  for (const { vpc, hosts, more } of model.vpcs) {
    const open = hosts.reduce((sum, [, flows]) => sum + flows, 0);
    row("neutral", [], vpc, hosts.length ? `${plural(hosts.length + more, "host")}: ${hosts.map(([host]) => host).join(", ")}` : "no open flow", open ? plural(open, "flow") : "");
  }
  title("Endpoint addresses");
  for (const { id, zone, state, says } of model.addresses) row(state, [state], zone, says ? `${id}  ${says}` : "", "");
  title("Ports and members");
  for (const { id, port, look, of, dots, flows } of model.rows) row(look, dots, `${port} ${id}`, of, flows ? plural(flows, "flow") : "");
  if (model.quiet) row("neutral", [], `and ${model.quiet} healthy targets`, "without an open flow", "");
  return { parts, height: y + 4 };
}
