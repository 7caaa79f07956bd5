// Zones of load balancers, and zonal shifts away from them.

import { el, keep, pill, say } from "./dom.js";
import { moment } from "./format.js";
import { act } from "./notices.js";
import { table } from "./table.js";
import { part, post, remove } from "./v1.js";

let refresh;
let draw;

/** The durations of a shift; "": until it is ended. */
const DURATIONS = [["", "until ended"], ["1m", "for 1 min"], ["10m", "for 10 min"], ["1h", "for 1 h"], ["1d", "for 1 day"]];

export function start(refreshed) {
  refresh = refreshed;
  draw = table("zone-rows", {
    key: (zone) => `${zone.service} ${zone.zone}`,
    make: makeRow,
    text: (zone) => [zone.zone, zone.service, remarks(zone), ...zone.addresses.map(({ ip }) => ip)].join(" "),
    columns: {
      zone: ({ zone }) => zone,
      service: ({ service }) => service,
      health: (zone) => (isWell(zone) ? 2 : 0) + (zone.shifted ? 0 : 1),
    },
    order: "health",
    nothing: "No zone: no endpoint of a project's load balancer has an address.",
  });
}

export const isWell = (zone) => zone.healthy && !zone.lost && !zone.outages.length;

export function show({ zones }) {
  draw(zones);
}

/** Why a zone isn't healthy, if known. */
function remarks({ unhealthy_targets: few, outages, lost, fail_open }) {
  const more = few.length > 3 ? ` and ${few.length - 3} more` : "";
  return [
    few.length && `too few healthy targets: ${few.slice(0, 3).join(", ")}${more}`,
    outages.length && `outage by fault ${outages.join(", ")}`,
    lost && !outages.length && "its addresses do not answer clients",
    fail_open,
  ].filter(Boolean).join("; ");
}

function makeRow({ service, zone }) {
  const [health, shift] = [pill(""), pill("")];
  const [why, until] = [el("span", { class: "quiet below" }), el("span", { class: "quiet below" })];
  const of = () => el("span", { class: "unseen" }, ` ${zone} of ${service}`);
  const addresses = el("ul", { class: "bare" });
  const lasts = el("select", { "aria-label": `How long traffic is shifted away from ${zone} of ${service}` }, ...DURATIONS.map(([value, text]) => el("option", { value }, text)));
  const away = el("button", { type: "button" }, "Shift away", of());
  const end = el("button", { type: "button" }, "End shift", of());
  const change = (button, work, text) =>
    button.addEventListener("click", () =>
      act(button, `The shift of ${zone} stays as it is`, async () => {
        const had = document.activeElement === button;
        await work();
        await refresh();
        if (had) (button === away ? end : away).focus();
        return text;
      }),
    );
  const body = () => ({ service, ...(lasts.value ? { for: lasts.value } : {}) });
  change(away, () => post(`zones/${part(zone)}/shift`, body()), `Traffic is shifted away from ${zone}`);
  change(end, () => remove(`zones/${part(zone)}/shift?service=${part(service)}`), `${zone} is used again`);
  return {
    element: el(
      "tr", {},
      el("th", { scope: "row" }, zone),
      el("td", {}, el("code", {}, service)),
      el("td", {}, addresses),
      el("td", { class: "wide" }, health.element, why),
      el("td", { class: "shift" }, shift.element, until),
      el("td", {}, el("div", { class: "actions" }, away, lasts, end)),
    ),
    update(view) {
      health.update(isWell(view) ? "Healthy" : "Unhealthy");
      say(why, remarks(view));
      shift.update(view.shifted ? "Shifted away" : "None");
      say(until, view.shift?.expires ? `until ${moment(view.shift.expires)}` : "");
      away.hidden = lasts.hidden = view.shifted;
      end.hidden = !view.shifted;
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
