// Zones of load balancers, and zonal shifts away from them.

import { byId, el, keep, pill, rows, say } from "./dom.js";
import { moment } from "./format.js";
import { act } from "./notices.js";
import { part, post, remove } from "./v1.js";

let refresh;

export function start(refreshed) {
  refresh = refreshed;
}

export function show({ zones }) {
  rows(byId("zone-rows"), zones, (zone) => `${zone.service} ${zone.zone}`, makeRow, "No zone: no endpoint of a project's load balancer has an address.");
}

/** Why a zone isn't healthy, as far as it is known. */
function remarks({ unhealthy_targets, outages, silent }) {
  return [
    unhealthy_targets.length && `too few healthy targets: ${unhealthy_targets.join(", ")}`,
    outages.length && `outage by fault ${outages.join(", ")}`,
    silent && "its addresses were found not to answer",
  ].filter(Boolean).join("; ");
}

function makeRow({ service, zone }) {
  let shifted;
  const [health, shift] = [pill(""), pill("")];
  const [why, until] = [el("span", { class: "quiet below" }), el("span", { class: "quiet below" })];
  const [verb, of] = [el("span"), el("span", { class: "unseen" }, ` ${zone} of ${service}`)];
  const addresses = el("ul", { class: "bare" });
  const button = el("button", { type: "button" }, verb, of);
  button.addEventListener("click", () => {
    const away = !shifted;
    return act(button, `The shift of ${zone} stays as it is`, async () => {
      if (away) await post(`zones/${part(zone)}/shift`, { service });
      else await remove(`zones/${part(zone)}/shift?service=${part(service)}`);
      await refresh();
      return away ? `Traffic is shifted away from ${zone}` : `${zone} is used again`;
    });
  });
  const element = el(
    "tr", {},
    el("th", { scope: "row" }, zone),
    el("td", {}, el("code", {}, service)),
    el("td", {}, addresses),
    el("td", {}, health.element, why),
    el("td", { class: "shift" }, shift.element, until),
    el("td", {}, button),
  );
  return {
    element,
    update(view) {
      shifted = view.shifted;
      health.update(view.healthy && !view.outages.length ? "Healthy" : "Unhealthy");
      say(why, remarks(view));
      shift.update(shifted ? "Shifted away" : "None");
      say(until, view.shift?.expires ? `until ${moment(view.shift.expires)}` : "");
      say(verb, shifted ? "End shift" : "Shift away");
      keep(addresses, view.addresses, (address) => address.ip, makeAddress);
    },
  };
}

function makeAddress({ ip }) {
  const text = el("span", { class: "quiet" });
  return {
    element: el("li", {}, el("code", {}, ip), " ", text),
    update({ in_dns }) {
      say(text, in_dns ? "in DNS" : "not in DNS");
    },
  };
}
