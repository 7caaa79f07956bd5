// Recent events, newest first; new ones are announced to screen readers, too.

import { byId, el, pill, say } from "./dom.js";
import { clock } from "./format.js";
import { announce } from "./notices.js";
import { table } from "./table.js";

/** Events that the page keeps. */
const KEPT = 500;

/** The most events that a screen reader announces after one poll. */
const SAID = 5;

const KINDS = { health: "Health", move: "Port move", fault: "Fault", zone: "Zone", endpoint: "Endpoint", reload: "Reload", registration: "Registration", node_name: "Host name", refusal: "Refused" };

let events = [];
let next = null;
let draw;

/** The request's path: first for the last events, then for new ones. */
export const path = () => (next === null ? `events?limit=${KEPT}` : `events?since=${next}`);

export function start() {
  draw = table("event-rows", {
    key: (event) => event.seq,
    make: makeRow,
    text: (event) => `${KINDS[event.kind]} ${event.kind} ${event.subject ?? ""} ${event.message}`,
    nothing: "Nothing has happened yet.",
    most: 200,
  });
  byId("event-kind").addEventListener("change", show);
}

/** Takes the answer to `path`. */
export function take(page) {
  const isFirst = next === null;
  next = page.next;
  events = [...page.events.toReversed(), ...events].slice(0, KEPT);
  if (isFirst) return;
  page.events.filter((event) => event.kind !== "refusal").slice(-SAID).forEach((event) => announce(event.message));
}

export function show() {
  const kind = byId("event-kind").value;
  draw(events.filter((event) => kind === "" || (kind === "changes" ? event.kind !== "refusal" : event.kind === kind)));
}

function makeRow({ at, kind, severity, message }) {
  const what = pill(severity === "info" ? KINDS[kind] : severity);
  say(what.element, KINDS[kind]);
  return {
    element: el(
      "tr", {},
      el("td", { class: "time" }, el("time", { datetime: at }, clock(at))),
      el("td", {}, what.element),
      el("td", { class: "wide" }, message),
    ),
  };
}
