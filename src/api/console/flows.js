// Open flows, and their end.

import { byId, el, mark, say } from "./dom.js";
import { bytes, count, duration, words } from "./format.js";
import { act } from "./notices.js";
import { table } from "./table.js";
import { part, remove } from "./v1.js";

/** The maximum of flows per request, and of rows. */
const MOST_ASKED = 5_000;
const MOST_SHOWN = 100;

let refresh;
let draw;

export function start(refreshed) {
  refresh = refreshed;
  draw = table("flow-rows", {
    key: (flow) => flow.id,
    make: makeRow,
    text: (flow) => [flow.id, flow.client, flow.origin, flow.endpoint, flow.listener, flow.target, flow.member, flow.target_address, ...flow.faults].join(" "),
    columns: {
      client: ({ client }) => client,
      target: ({ target }) => target,
      age: ({ age_seconds: age }) => age,
      sent: (flow) => -flow.bytes_to_target,
      received: (flow) => -flow.bytes_to_client,
      faults: (flow) => -flow.faults.length,
    },
    order: "age",
    nothing: "No open flow.",
    most: MOST_SHOWN,
  });
}

/** Whether few enough flows are open to list them. */
export const isListed = (status) => status.open_flows <= MOST_ASKED;

export function show({ status, flows }) {
  say(byId("flow-hint"), flows ? `${count(flows.length)} open` : `${count(status.open_flows)} flows are open, too many to list here: plgw flows lists them.`);
  draw(flows ?? []);
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
