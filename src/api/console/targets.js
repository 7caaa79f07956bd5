// Addressable targets: ports, zones, health, throughput; the move of a port, as a cluster change does on Atlas, and members
// taken out of their group and put back.

import { byId, el, keep, mark, options, pill, say } from "./dom.js";
import { count, rate, words } from "./format.js";
import { done } from "./notices.js";
import { sparkline } from "./sparkline.js";
import { badness, table } from "./table.js";
import { part, post } from "./v1.js";

let refresh;
let draw;
/** The target of the dialog. */
let chosen = null;

export function start(refreshed) {
  refresh = refreshed;
  draw = table("target-rows", {
    key: (target) => `${target.service} ${target.id}`,
    make: makeRow,
    text: (target) => [target.id, target.kind, target.port, target.state, target.region, ...target.members.flatMap((member) => [member.name, member.zone, member.address, member.state, member.reach ?? ""])].join(" "),
    columns: {
      target: ({ id }) => id,
      port: ({ port }) => port,
      health: (target) => Math.min(badness(target.state), ...target.members.map((member) => (member.reach ? 0 : badness(member.state)))),
      flows: ({ flows }) => -flows,
      throughput: ({ sum }) => -sum,
    },
    order: "health",
    nothing: "No target: no cluster of a project with an endpoint service in its region.",
  });
  dialog("move", () => {
    const port = byId("move-port").value;
    return ["move", port === "" ? {} : { port: Number(port) }, ({ target, from, to }) => `${target} moved from port ${from} to port ${to}`];
  });
  dialog("registration", () => {
    const member = byId("registration-member").value;
    const verb = byId("registration-verb").value;
    return [verb, member === "" ? {} : { member }, ({ target, members }) => `${members.join(", ")} of ${target} ${verb}ed`];
  });
}

/** A dialog about the chosen target. `order()` returns the operation, its body, and the notice for its answer. */
function dialog(id, order) {
  const [box, problem] = [byId(id), byId(`${id}-problem`)];
  const button = box.querySelector("[type=submit]");
  box.querySelector(".cancel").addEventListener("click", () => box.close());
  box.querySelector("form").addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.getAttribute("aria-disabled") === "true") return;
    button.setAttribute("aria-disabled", "true");
    const [cluster, ...rest] = chosen.id.split("/");
    const [verb, body, text] = order();
    try {
      const answer = await post(`targets/${part(cluster)}/${part(rest.join("/"))}/${verb}`, { service: chosen.service, ...body });
      box.close();
      done(text(answer));
      await refresh();
    } catch (error) {
      say(problem, error.message);
    } finally {
      button.removeAttribute("aria-disabled");
    }
  });
}

function open(id, target, text, first) {
  chosen = target;
  say(byId(`${id}-text`), text);
  say(byId(`${id}-problem`), "");
  byId(id).showModal();
  byId(first).focus();
}

export function show({ targets, rates, flows, hasRates }) {
  const open = Map.groupBy(flows ?? [], (flow) => flow.target);
  draw(
    targets.map((target) => {
      const carried = rates.targets[target.id] ?? { bytes_to_target: 0, bytes_to_client: 0 };
      return { ...target, hasRates, flows: open.get(target.id)?.length ?? 0, sum: carried.bytes_to_target + carried.bytes_to_client };
    }),
  );
}

function makeRow({ service, id }) {
  let shown;
  const [kind, port, flows] = [el("span", { class: "quiet below" }), el("code", { class: "port" }), el("td", { class: "number" })];
  const members = el("ul", { class: "bare" });
  const [health, paused] = [pill(""), el("span", { class: "quiet below" })];
  const { element: curve, push } = sparkline(`target ${service} ${id}`);
  const number = el("span", { class: "rate" });
  const button = (name, press) => el("button", { type: "button", onclick: press }, name, el("span", { class: "unseen" }, ` of ${id}`));
  const moves = button("Move port", () => {
    byId("move-port").value = "";
    open("move", shown, `${id} has port ${shown.port}. DNS names the new one before the old one drains.`, "move-port");
  });
  const registers = button("Members", () => {
    options(byId("registration-member"), [["", "All members"], ...shown.members.map(({ name, state }) => [name, `${name} (${state})`])]);
    open("registration", shown, `A member of ${id} that is taken out of the target group gets no new flows; its open ones drain.`, "registration-verb");
  });
  return {
    element: el(
      "tr", {},
      el("th", { scope: "row" }, el("code", {}, id), kind),
      el("td", { class: "number" }, port),
      el("td", { class: "wide" }, members),
      el("td", { class: "health" }, health.element, paused),
      flows,
      el("td", { class: "throughput" }, curve, number),
      el("td", {}, el("div", { class: "actions" }, moves, registers)),
    ),
    update(target) {
      shown = target;
      say(kind, words(target.kind));
      say(port, target.port);
      keep(members, target.members, (member) => member.name, makeMember);
      health.update(target.state);
      say(paused, target.paused ? "paused" : "");
      say(flows, count(target.flows));
      say(number, rate(target.sum));
      if (target.hasRates) push(target.sum);
    },
  };
}

function makeMember() {
  const [zone, address, why] = [el("span", { class: "zone" }), el("code"), el("span", { class: "why" })];
  return {
    element: el("li", {}, zone, " ", address, " ", why),
    update(member) {
      say(zone, member.zone);
      say(address, member.address);
      const remarks = [
        member.state !== "healthy" && member.state,
        member.reach && `last connection: ${words(member.reach)}`,
        member.shifted && "shifted away from",
        member.faulted && "made unreachable by a fault",
      ].filter(Boolean);
      say(why, remarks.join(", "));
      mark(why, "class", `why ${member.reach || member.state.startsWith("unhealthy") ? "problem" : "quiet"}`);
    },
  };
}
