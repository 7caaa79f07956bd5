// Zones of load balancers, and zonal shifts away from them.

import { byId, el, keep, pill, rows, say } from "./dom.js";
import { act } from "./notices.js";
import { part, post, remove } from "./v1.js";

let refresh;

export function start(refreshed) {
  refresh = refreshed;
}

export function show({ zones, services }) {
  const withAddresses = zones.map((zone) => {
    const endpoints = services.find(({ id }) => id === zone.service)?.endpoints ?? [];
    return { ...zone, addresses: endpoints.flatMap((endpoint) => endpoint.addresses).filter((address) => address.zone === zone.zone) };
  });
  rows(byId("zone-rows"), withAddresses, (zone) => `${zone.service} ${zone.zone}`, makeRow, "No zone: no endpoint of a project's load balancer has an address.");
}

function makeRow({ service, zone }) {
  let shifted;
  const [health, shift] = [pill(""), pill("")];
  const [verb, of] = [el("span"), el("span", { class: "unseen" })];
  const addresses = el("ul", { class: "bare" });
  const button = el("button", { type: "button" }, verb, of);
  button.addEventListener("click", () =>
    act(button, `The shift of ${zone} stays as it is`, async () => {
      if (shifted) await remove(`zones/${part(zone)}/shift?service=${part(service)}`);
      else await post(`zones/${part(zone)}/shift`, { service });
      await refresh();
      return shifted ? `${zone} is shifted away from` : `${zone} is used again`;
    }),
  );
  const element = el(
    "tr", {},
    el("th", { scope: "row" }, zone),
    el("td", {}, el("code", {}, service)),
    el("td", {}, addresses),
    el("td", {}, health.element),
    el("td", {}, shift.element),
    el("td", {}, button),
  );
  return {
    element,
    update(view) {
      shifted = view.shifted;
      health.update(view.healthy ? "Healthy" : "Unhealthy");
      shift.update(shifted ? "Shifted away" : "None");
      say(verb, shifted ? "End shift" : "Shift away");
      say(of, ` ${shifted ? "from" : "from"} ${zone} on ${service}`);
      keep(addresses, view.addresses, (address) => address.eni, ({ ip }) => ({ element: el("li", {}, el("code", {}, ip)) }));
    },
  };
}
