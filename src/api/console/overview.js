// Readiness and throughput.

import { byId, el, keep, mark, pill, say } from "./dom.js";
import { bytes, count, rate } from "./format.js";
import { act } from "./notices.js";
import { sparkline } from "./sparkline.js";
import { post } from "./v1.js";

const TILES = [
  { id: "open", name: "Open flows", value: (now) => count(now.status.open_flows), note: (now) => `${count(now.status.carried.flows)} since the start`, curve: (now) => now.status.open_flows },
  { id: "to-targets", name: "To targets", value: (now) => rate(now.rates.total.bytes_to_target), note: (now) => `${bytes(now.status.carried.bytes_to_target)} in all`, curve: (now) => now.rates.total.bytes_to_target },
  { id: "to-clients", name: "To clients", value: (now) => rate(now.rates.total.bytes_to_client), note: (now) => `${bytes(now.status.carried.bytes_to_client)} in all`, curve: (now) => now.rates.total.bytes_to_client },
  { id: "refused", name: "Refused", value: (now) => count(now.status.carried.refused), note: () => "connections since the start", curve: (now) => now.rates.total.refused },
];

export function start(refresh) {
  byId("reload").addEventListener("click", (event) =>
    act(event.currentTarget, "The config was not reloaded", async () => {
      const { generation, needs_restart } = await post("reload");
      await refresh();
      const waits = needs_restart.length ? `; at the next start: ${needs_restart.join(", ")}` : "";
      return `The config was reloaded; generation ${generation} is in force${waits}`;
    }),
  );
}

export function show(now) {
  const { status } = now;
  say(byId("version"), `${status.version} · generation ${status.generation}`);
  const state = pill(status.readiness.ready ? "ready" : "not ready").element;
  if (byId("state").textContent !== state.textContent) byId("state").replaceChildren(state);
  const problems = byId("problems");
  mark(problems, "class", status.problems.length ? "problems" : "problems well");
  const known = status.problems.length ? status.problems : [{ severity: "good", message: "Nothing is wrong" }];
  keep(problems, known, ({ severity, message }) => `${severity} ${message}`, makeProblem);
  keep(byId("tiles"), TILES, (tile) => tile.id, (tile) => makeTile(tile, now));
  for (const tile of TILES) byId("tiles").kept.get(tile.id).show(now);
  keep(byId("conditions"), status.readiness.conditions, (condition) => condition.name, makeCondition);
  byId("remarks").hidden = status.notices.length === 0;
  keep(byId("remarks"), status.notices, (text) => text, (text) => ({ element: el("li", {}, text) }));
}

/** A problem with a link to its section. */
function makeProblem({ severity, message, console: at }) {
  const look = pill(severity === "good" ? "Ready" : severity[0].toUpperCase() + severity.slice(1)).element;
  const section = at?.split("#")[1];
  const where = section && section !== "overview" ? el("a", { href: `#${section}` }, message) : message;
  return { element: el("li", {}, look, el("span", {}, where)) };
}

function makeTile(tile) {
  const [value, note] = [el("span", { class: "value" }), el("span", { class: "note" })];
  const { element: curve, push } = sparkline(`all ${tile.id}`);
  return {
    element: el("div", { class: "tile", id: `tile-${tile.id}` }, el("dt", {}, tile.name), el("dd", {}, value, curve, note)),
    show(now) {
      say(value, tile.value(now));
      say(note, tile.note(now));
      if (now.hasRates) push(tile.curve(now));
    },
  };
}

function makeCondition() {
  const text = el("span");
  const element = el("li", {}, text);
  return {
    element,
    update(condition) {
      say(text, `${condition.name}: ${condition.detail}`);
      mark(element, "class", condition.ready ? "good" : "bad");
    },
  };
}
