// App Services: apps with the Restrict Access switch, and their private endpoints.

import { byId, el, keep, mark, pill, rows, say } from "./dom.js";
import { endpointStatus, lineKey, lines } from "./endpoints.js";
import { act } from "./notices.js";
import { part, patch } from "./v1.js";

let refresh;

export function start(refreshed) {
  refresh = refreshed;
}

export function show({ apps, services }) {
  keep(byId("app-cards"), apps, (app) => app.id, makeCard);
  const own = services.filter((service) => service.kind !== "atlas");
  const known = lines(own).map((line) => ({
    ...line,
    apps: apps.filter((app) => app.endpoints.some(({ endpoint }) => endpoint === line.endpoint?.id)),
  }));
  rows(byId("app-endpoint-rows"), known, lineKey, makeRow, "No App Services endpoint service: the config names none.");
}

function makeCard() {
  let shown;
  const title = el("h3");
  const facts = el("p", { class: "quiet" });
  const means = el("p", { class: "hint" });
  const change = (button, body, text) =>
    act(button, `${shown.id} stays as it is`, async () => {
      await patch(`apps/${part(shown.id)}`, body);
      await refresh();
      return text;
    });
  const restrict = toggle("Restrict Access", (button, on) =>
    change(button, { allow_non_vpc_client_requests: !on }, on ? `${shown.id} answers requests from its VPC alone` : `${shown.id} answers requests from outside the VPC too`),
  );
  const wire = toggle("MongoDB wire protocol", (button, on) =>
    change(button, { wire_protocol: on }, `The wire protocol of ${shown.id} is ${on ? "on" : "off"}`),
  );
  const element = el("article", { class: "card" }, title, facts, restrict.element, means, wire.element);
  return {
    element,
    update(app) {
      shown = app;
      say(title, app.id);
      say(facts, `${app.deployment}, ${app.region} · public address ${app.public_address} · ${app.endpoints.length} private endpoints`);
      restrict.update(!app.allow_non_vpc_client_requests, app.id);
      wire.update(app.wire_protocol, app.id);
      say(means, meaning(app));
    },
  };
}

function meaning(app) {
  if (app.endpoints.length === 0) return "Without a private endpoint the switch has no effect yet.";
  return app.restricted
    ? "Requests from outside the VPC get 404. The setting is global to all of the app's endpoints."
    : "Requests from outside the VPC are answered, subject to the IP access list. The setting is global to all of the app's endpoints.";
}

/** A switch with its name beside it. */
function toggle(name, change) {
  const of = el("span", { class: "unseen" });
  const button = el("button", { type: "button", role: "switch", class: "switch", "aria-checked": "false" }, el("span", { class: "track", "aria-hidden": "true" }), el("span", {}, name), of);
  button.addEventListener("click", () => void change(button, button.getAttribute("aria-checked") !== "true"));
  return {
    element: el("p", {}, button),
    update(on, app) {
      mark(button, "aria-checked", String(on));
      say(of, ` for ${app}`);
    },
  };
}

function makeRow() {
  const [region, type] = [el("span"), el("span")];
  const [name, id] = [el("code", { class: "long" }), el("code")];
  const [serviceStatus, status] = [pill(""), pill("")];
  const error = el("span", { class: "problem below" });
  const used = el("ul", { class: "bare" });
  const element = el(
    "tr", {},
    el("td", { class: "nowrap" }, region),
    el("td", {}, type),
    el("td", {}, name),
    el("td", {}, serviceStatus.element),
    el("th", { scope: "row" }, id),
    el("td", {}, status.element, error),
    el("td", {}, used),
  );
  return {
    element,
    update({ service, endpoint, apps }) {
      say(region, service.region);
      say(type, service.kind === "sync" ? "Sync" : "General");
      say(name, service.name);
      serviceStatus.update(service.status);
      say(id, endpoint?.id ?? "–");
      status.update(endpointStatus(endpoint));
      say(error, endpoint?.error ?? "");
      const remarks = apps.map((app) => [app.id, app.endpoints.find((one) => one.endpoint === endpoint?.id)?.comment]);
      keep(used, remarks, ([id]) => id, ([id, comment]) => ({ element: el("li", {}, comment ? `${id}: ${comment}` : id) }));
    },
  };
}
