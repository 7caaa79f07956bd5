// Addressable targets: ports, zones, health, throughput; and the move of a port, as a cluster change does on Atlas.

import { byId, el, keep, pill, rows, say } from "./dom.js";
import { rate, words } from "./format.js";
import { done } from "./notices.js";
import { sparkline } from "./sparkline.js";
import { part, post } from "./v1.js";

let refresh;
/** The target that the dialog is about. */
let moving = null;

export function start(refreshed) {
  refresh = refreshed;
  byId("move-form").addEventListener("submit", (event) => {
    event.preventDefault();
    void move();
  });
  byId("move").querySelector(".cancel").addEventListener("click", () => byId("move").close());
}

export const targetKey = (target) => `${target.service} ${target.id}`;

export function show({ targets, rates }) {
  const withRates = targets.map((target) => ({ ...target, carried: rates.targets[target.id] }));
  rows(byId("target-rows"), withRates, targetKey, makeRow, "No target: no cluster of a project with an endpoint service in its region.");
}

function makeRow() {
  let shown;
  const [id, kind, port] = [el("code"), el("span"), el("code", { class: "port" })];
  const members = el("ul", { class: "bare" });
  const health = pill("");
  const paused = el("span", { class: "quiet below" });
  const { element: curve, push } = sparkline();
  const number = el("span", { class: "rate" });
  const button = el("button", { type: "button", onclick: () => open(shown) }, "Move port", el("span", { class: "unseen" }));
  const element = el(
    "tr", {},
    el("th", { scope: "row" }, id),
    el("td", {}, kind),
    el("td", { class: "number" }, port),
    el("td", {}, members),
    el("td", { class: "health" }, health.element, paused),
    el("td", { class: "throughput" }, curve, number),
    el("td", {}, button),
  );
  return {
    element,
    update(target) {
      shown = target;
      say(id, target.id);
      say(kind, words(target.kind));
      say(port, target.port);
      say(button.lastChild, ` of ${target.id}`);
      keep(members, target.members, (member) => member.name, makeMember);
      health.update(target.state);
      say(paused, target.paused ? "paused" : "");
      const carried = target.carried ?? { bytes_to_target: 0, bytes_to_client: 0 };
      const sum = carried.bytes_to_target + carried.bytes_to_client;
      say(number, rate(sum));
      push(sum);
    },
  };
}

function makeMember() {
  const [zone, address, why] = [el("span", { class: "zone" }), el("code"), el("span", { class: "quiet" })];
  return {
    element: el("li", {}, zone, " ", address, " ", why),
    update(member) {
      say(zone, member.zone);
      say(address, member.address);
      const told = [
        member.state !== "healthy" && member.state,
        member.reach && `last connection: ${words(member.reach)}`,
        member.shifted && "shifted away from",
        member.faulted && "made unreachable by a fault",
      ].filter(Boolean);
      say(why, told.join(", "));
    },
  };
}

function open(target) {
  moving = target;
  say(byId("move-text"), `${target.id} has port ${target.port}. DNS names the new one before the old one drains.`);
  byId("move-port").value = "";
  say(byId("move-problem"), "");
  byId("move").showModal();
  byId("move-port").focus();
}

async function move() {
  const [cluster, ...rest] = moving.id.split("/");
  const port = byId("move-port").value;
  const body = { service: moving.service, ...(port === "" ? {} : { port: Number(port) }) };
  try {
    const moved = await post(`targets/${part(cluster)}/${part(rest.join("/"))}/move`, body);
    byId("move").close();
    done(`${moved.target} moved from port ${moved.from} to port ${moved.to}`);
    await refresh();
  } catch (error) {
    say(byId("move-problem"), error.message);
  }
}
