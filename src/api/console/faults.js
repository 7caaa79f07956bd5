// Fault injection: kind, scope and share of the faults; set and clear.

import { byId, el, options, pill, rows, say } from "./dom.js";
import { count, moment } from "./format.js";
import { act } from "./notices.js";
import { part, post, remove } from "./v1.js";

/**
 * The kinds of `/v1`. `amount`: the kind's number, `[field, label, an example, its unit]`; `how`: choices;
 * `where`: the scopes that make sense (`""`: everywhere); `share`: whether it can affect a share of the flows.
 */
const KINDS = {
  latency: { name: "Latency", amount: ["delay", "Delay, ms", 100, "ms"], share: true },
  bandwidth: { name: "Bandwidth limit", amount: ["bytes_per_second", "Bytes a second", 65536], share: true },
  reset: { name: "Reset after a time", amount: ["time", "After, ms", 1000, "ms"], share: true },
  "black-hole": { name: "Black hole: no answer", share: true },
  refuse: { name: "Refuse connections", share: true },
  "half-open": { name: "Half-open: the target's side is gone", amount: ["time", "After, ms", 1000, "ms"], share: true },
  "slow-close": { name: "Slow close", amount: ["delay", "Delay, ms", 1000, "ms"], share: true },
  "target-down": {
    name: "Target down", where: ["", "target", "zone"],
    how: ["silent", [["", "It refuses, as a process that is gone"], ["true", "It is silent, as a host that is gone"]], (value) => value === "true"],
  },
  "zone-outage": { name: "Zone outage", where: ["zone"] },
  "port-move": { name: "Port move", where: ["target"] },
  "dns-failure": {
    name: "DNS failure", where: ["", "endpoint"], share: true,
    how: ["answer", [["servfail", "SERVFAIL"], ["nxdomain", "NXDOMAIN"], ["refused", "REFUSED"], ["timeout", "No answer"]], (value) => value],
  },
};

const EVERYWHERE = ["", "target", "endpoint", "zone"];

let refresh;
let now = null;

export function start(refreshed) {
  refresh = refreshed;
  options(byId("fault-type"), Object.entries(KINDS).map(([key, kind]) => [key, kind.name]));
  byId("fault-type").addEventListener("change", fit);
  byId("fault-form").addEventListener("submit", (event) => {
    event.preventDefault();
    void switchOn(byId("fault-form").querySelector("[type=submit]"));
  });
  fit();
}

export function show(latest) {
  now = latest;
  places();
  rows(byId("fault-rows"), now.faults, (fault) => fault.name, makeRow, "No fault: everything works as well as it can.");
}

const chosen = () => KINDS[byId("fault-type").value];

/** Shows the fields of the chosen kind. */
function fit() {
  const { amount, how, share } = chosen();
  byId("fault-amount-field").hidden = !amount;
  byId("fault-amount").required = Boolean(amount);
  if (amount) {
    say(byId("fault-amount-label"), amount[1]);
    byId("fault-amount").value = amount[2];
  }
  byId("fault-how-field").hidden = !how;
  options(byId("fault-how"), how?.[1] ?? []);
  byId("fault-share-field").hidden = !share;
  places();
}

/** The scopes of the chosen kind. */
function places() {
  if (!now) return;
  const found = {
    "": [["", "Everywhere"]],
    target: now.targets.map((target) => [`target ${target.id}`, `Target ${target.id}`]),
    endpoint: now.services.filter((service) => service.kind === "atlas").flatMap((service) => service.endpoints).map(({ id }) => [`endpoint ${id}`, `Endpoint ${id}`]),
    zone: [...new Set(now.zones.map(({ zone }) => zone))].map((zone) => [`zone ${zone}`, `Zone ${zone}`]),
  };
  options(byId("fault-where"), (chosen().where ?? EVERYWHERE).flatMap((kind) => found[kind]));
}

function switchOn(button) {
  const { amount, how, share } = chosen();
  const type = byId("fault-type").value;
  const value = byId("fault-amount").value;
  const [scope, ...rest] = byId("fault-where").value.split(" ");
  const lasts = byId("fault-lasts").value;
  const name = byId("fault-name").value;
  const fault = {
    ...(name ? { name } : {}),
    type,
    ...(amount ? { [amount[0]]: amount[3] ? `${value}${amount[3]}` : Number(value) } : {}),
    ...(how ? { [how[0]]: how[2](byId("fault-how").value) } : {}),
    ...(scope ? { [scope]: rest.join(" ") } : {}),
    ...(share ? { share: Number(byId("fault-share").value) / 100 } : {}),
    ...(lasts ? { for: `${Math.round(Number(lasts) * 1000)}ms` } : {}),
  };
  return act(button, "The fault is not on", async () => {
    const set = await post("faults", fault);
    byId("fault-name").value = "";
    await refresh();
    return `Fault ${set.name} is on`;
  });
}

const AMOUNTS = ["delay", "jitter", "time", "every", "bytes_per_second", "bytes", "direction", "silent", "answer"];
const SCOPES = ["service", "target", "member", "endpoint", "zone"];

/** `delay 100ms, jitter 20ms`: the settings of a fault among `keys`, without those at their default. */
function details(fault, keys) {
  const set = keys.filter((key) => ![undefined, null, false, "0s", "both"].includes(fault[key]));
  return set.map((key) => `${key.replaceAll("_", " ")} ${fault[key]}`).join(", ");
}

function makeRow({ name }) {
  const [place, share] = [el("td"), el("td", { class: "number" })];
  const status = pill("");
  const [times, flows] = [el("span", { class: "quiet below" }), el("td", { class: "number" })];
  const button = el(
    "button",
    {
      type: "button",
      onclick: () =>
        act(button, `Fault ${name} stays on`, async () => {
          await remove(`faults/${part(name)}`);
          await refresh();
          return `Fault ${name} is off`;
        }),
    },
    "Switch off", el("span", { class: "unseen" }, ` ${name}`),
  );
  const [label, detail] = [el("span"), el("span", { class: "quiet below" })];
  const element = el(
    "tr", {},
    el("th", { scope: "row" }, el("code", {}, name)),
    el("td", {}, label, detail),
    place,
    share,
    el("td", {}, status.element, times),
    flows,
    el("td", {}, button),
  );
  return {
    element,
    update(fault) {
      say(label, KINDS[fault.type]?.name ?? fault.type);
      say(detail, details(fault, AMOUNTS));
      say(place, details(fault, SCOPES) || "everywhere");
      say(share, `${+(fault.share * 100).toFixed(4)} %`);
      status.update(fault.state === "active" ? "On" : "To come");
      say(times, fault.state === "waiting" ? `from ${moment(fault.begins_at)}` : fault.ends_at ? `until ${moment(fault.ends_at)}` : "");
      say(flows, count(fault.flows));
    },
  };
}
