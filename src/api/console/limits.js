// The limits of each load balancer and their use.

import { el, mark, say } from "./dom.js";
import { count, rate } from "./format.js";
import { act } from "./notices.js";
import { table } from "./table.js";
import { put } from "./v1.js";

/** The share of a limit from which it counts as near. */
const NEAR = 0.8;

let refresh;
let draw;

export function start(refreshed) {
  refresh = refreshed;
  draw = table("limit-rows", {
    key: (line) => line.key,
    make: makeRow,
    text: ({ name, of }) => `${name} ${of}`,
    columns: { name: ({ name }) => name, of: ({ of }) => of, share: ({ used, limit }) => -(used ?? 0) / (limit || Infinity) },
    order: "share",
    nothing: "No load balancer, nothing to limit.",
  });
}

/** The lines of one load balancer. `field`: its name in `/v1/limits`; a limit without one can't be changed at run time. */
function lines({ service, provider, region, targets_per_region, flows_per_target, bandwidth_bytes_per_second, ports }) {
  const line = (name, rest) => ({ key: `${service} ${name}`, name, of: `${provider} ${region}: ${service}`, service, ...rest });
  return [
    line("Addressable targets", { ...targets_per_region, field: "targets_per_region", unit: "" }),
    line("Flows of the fullest target", { ...flows_per_target, field: "flows_per_target", unit: "" }),
    line("Bandwidth of an endpoint address", { limit: bandwidth_bytes_per_second, used: null, field: "bandwidth_bytes_per_second", optional: true }),
    line("Listener ports", { limit: ports.size, used: ports.used }),
  ];
}

/** How many ports a range like `1024-65535` has. */
function size(range) {
  const [first, last = first] = range.split("-").map(Number);
  return last - first + 1;
}

export function show({ limits }) {
  const all = limits.limits.flatMap((of) => lines({ ...of, ports: { ...of.ports, size: size(of.ports.range) } }));
  draw(all);
}

const shown = ({ field, limit }) => {
  if (limit === null) return "no limit";
  return field === "bandwidth_bytes_per_second" ? rate(limit) : count(limit);
};

function makeRow({ name, of, service, field, maximum, optional }) {
  const [used, limit] = [el("td", { class: "number" }), el("td", { class: "number" })];
  const meter = el("meter", { min: 0, low: NEAR, high: 0.999, optimum: 0, max: 1, "aria-label": `${name}: share that is taken` });
  const near = el("span", { class: "quiet below" });
  const element = el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, el("code", {}, of)), used, limit, el("td", {}, meter, near), el("td", {}, field ? change() : null));
  return {
    element,
    update(line) {
      say(used, line.used === null ? "–" : count(line.used));
      say(limit, shown(line));
      const share = line.used === null || !line.limit ? null : line.used / line.limit;
      meter.hidden = share === null;
      meter.value = share ?? 0;
      say(near, share === null ? "" : share >= 1 ? "full" : share >= NEAR ? "near its limit" : "");
    },
  };

  function change() {
    const input = el("input", { type: "number", min: 1, max: maximum, step: 1, inputmode: "numeric", "aria-label": `New limit: ${name}, ${of}`, placeholder: optional ? "none" : "new limit" });
    mark(input, "required", !optional);
    const button = el("button", { type: "submit" }, "Set", el("span", { class: "unseen" }, ` ${name}, ${of}`));
    const form = el("form", { class: "inline" }, input, button);
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      void act(button, `${name}: the limit stays`, async () => {
        await put("limits", { service, [field]: input.value === "" ? null : Number(input.value) });
        input.value = "";
        await refresh();
        return `${name}: the new limit is in force`;
      });
    });
    return form;
  }
}
