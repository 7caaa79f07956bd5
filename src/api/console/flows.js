// Open flows, and their end.

import { byId, el, mark, rows, say } from "./dom.js";
import { bytes, count, duration, words } from "./format.js";
import { act } from "./notices.js";
import { part, remove } from "./v1.js";

/** Flows that are asked for at once, and rows that are shown of them: more than that nobody reads. */
const MOST_ASKED = 5_000;
const MOST_SHOWN = 100;

let refresh;
let now = { flows: null, status: null };

export function start(refreshed) {
  refresh = refreshed;
  byId("flow-filter").addEventListener("input", () => show(now));
}

/** Whether listing the flows is worth its cost, and the page's. */
export const isListed = (status) => status.open_flows <= MOST_ASKED;

export function show(latest) {
  now = latest;
  if (!now.status) return;
  const wanted = byId("flow-filter").value.toLowerCase().split(/\s+/).filter(Boolean);
  const text = (flow) => [flow.id, flow.client, flow.origin, flow.endpoint, flow.listener, flow.target, flow.member, flow.target_address, ...flow.faults].join(" ").toLowerCase();
  const all = now.flows ?? [];
  const fitting = all.filter((flow) => wanted.every((word) => text(flow).includes(word))).reverse();
  const shown = fitting.slice(0, MOST_SHOWN);
  say(byId("flow-hint"), hint(all.length, fitting.length, shown.length));
  rows(byId("flow-rows"), shown, (flow) => flow.id, makeRow, wanted.length ? "No open flow fits the filter." : "No open flow.");
}

function hint(all, fitting, shown) {
  if (!now.flows) return `${count(now.status.open_flows)} flows are open, too many to list here: plgw flows lists them.`;
  if (shown < fitting) return `${count(shown)} of ${count(fitting)} are shown; filter to see others.`;
  return fitting === all ? `${count(all)} open` : `${count(fitting)} of ${count(all)} fit`;
}

function makeRow(flow) {
  const end = el(
    "button",
    {
      type: "button",
      onclick: () =>
        act(end, `Flow ${flow.id} was not ended`, async () => {
          await remove(`flows/${part(flow.id)}`);
          await refresh();
          return `Flow ${flow.id} is ended; both sides were reset`;
        }),
    },
    "End", el("span", { class: "unseen" }, ` flow ${flow.id} from ${flow.client}`),
  );
  const [age, sent, received, faults] = [el("td", { class: "number" }), el("td", { class: "number" }), el("td", { class: "number" }), el("td")];
  const element = el(
    "tr", {},
    el("th", { scope: "row" }, el("code", {}, flow.id)),
    el("td", {}, el("code", {}, flow.client), el("span", { class: "quiet below" }, words(flow.origin))),
    el("td", {}, el("code", {}, flow.endpoint), el("code", { class: "quiet below" }, flow.listener)),
    el("td", {}, el("code", {}, flow.target), el("code", { class: "quiet below" }, flow.target_address)),
    age, sent, received, faults,
    el("td", {}, end),
  );
  return {
    element,
    update(flow) {
      say(age, duration(flow.age_seconds));
      say(sent, bytes(flow.bytes_to_target));
      say(received, bytes(flow.bytes_to_client));
      say(faults, flow.faults.join(", "));
      mark(element, "class", flow.faults.length ? "faulted" : null);
    },
  };
}
