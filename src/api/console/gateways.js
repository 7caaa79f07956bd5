// The gateways that share the state, with their zones, and a button to forget one that is gone.

import { byId, el, pill, say } from "./dom.js";
import { act } from "./notices.js";
import { table } from "./table.js";
import { part, remove } from "./v1.js";

let refresh;
let drawGateways;
let drawZones;

export function start(refreshed) {
  refresh = refreshed;
  drawGateways = table("gateway-rows", {
    key: ({ id }) => id,
    make: makeGateway,
    text: ({ id, state, serving }) => `${id} ${state} ${serving.join(" ")}`,
    columns: { id: ({ id }) => id, state: ({ state }) => ["gone", "standby", "serving"].indexOf(state) },
    order: "id",
    nothing: "No gateway.",
  });
  drawZones = table("claim-rows", {
    key: ({ zone }) => zone,
    make: makeZone,
    text: ({ zone, gateway }) => `${zone} ${gateway ?? ""}`,
    nothing: "Every gateway serves all addresses.",
  });
}

export function show({ gateways }) {
  byId("gateways").hidden = !gateways.shared;
  document.querySelector('nav a[href="#gateways"]').parentElement.hidden = !gateways.shared;
  if (!gateways.shared) return;
  drawGateways(gateways.gateways);
  const gone = new Set(gateways.gateways.filter(({ state }) => state === "gone").map(({ id }) => id));
  drawZones(gateways.claims.map((claim) => ({ ...claim, gone: gone.has(claim.gateway) })));
}

const names = (list, none) => (list === null ? "all addresses" : list.join(", ") || none);

function makeGateway({ id }) {
  const [state, heard] = [pill(""), el("span", { class: "quiet below" })];
  const [serves, wants, admin] = [el("td"), el("td"), el("td")];
  const forget = el("button", { type: "button" }, "Forget", el("span", { class: "unseen" }, ` ${id}`));
  forget.addEventListener("click", () =>
    act(forget, `${id} is not forgotten`, async () => {
      const { ports } = await remove(`gateways/${part(id)}`);
      await refresh();
      return `${id} is forgotten; ${ports} reserved ports are released`;
    }),
  );
  return {
    element: el("tr", {}, el("th", { scope: "row" }, el("code", {}, id)), el("td", {}, state.element, heard), serves, wants, admin, el("td", {}, el("div", { class: "actions" }, forget))),
    update(view) {
      state.update(view.state[0].toUpperCase() + view.state.slice(1));
      const ago = view.heard_seconds_ago === null ? "" : `heard of ${view.heard_seconds_ago} s ago`;
      say(heard, view.is_this ? "this gateway" : ago);
      const serving = view.zones === null ? "all addresses" : names(view.serving, "nothing");
      say(serves, view.state === "gone" ? `last: ${serving}` : serving);
      say(wants, names(view.zones, "nothing"));
      const url = view.admin ?? "";
      if (admin.textContent !== url) admin.replaceChildren(/^https?:/.test(url) ? el("a", { href: url, rel: "noreferrer" }, url) : url);
      forget.hidden = view.is_this || view.state !== "gone";
    },
  };
}

function makeZone({ zone }) {
  const [holder, standbys, without] = [el("td"), el("td"), el("td")];
  return {
    element: el("tr", {}, el("th", { scope: "row" }, zone), holder, standbys, without),
    update(view) {
      say(holder, view.gone ? `${view.gateway} (gone)` : (view.gateway ?? "none"));
      say(standbys, view.standbys.join(", ") || "none");
      say(without, view.fenced ? "stops, so that a standby may take it" : "goes on");
    },
  };
}
