// What is used of what there is.

import { byId, el, rows, say } from "./dom.js";
import { count } from "./format.js";

export function show({ limits }) {
  rows(byId("limit-rows"), limits.limits ?? [], (limit) => `${limit.name} ${limit.of}`, makeRow, "Nothing is limited.");
}

function makeRow() {
  const [name, of] = [el("span"), el("code")];
  const [used, most] = [el("td", { class: "number" }), el("td", { class: "number" })];
  const meter = el("meter", { min: 0 });
  const element = el("tr", {}, el("th", { scope: "row" }, name), el("td", {}, of), used, most, el("td", {}, meter));
  return {
    element,
    update(limit) {
      say(name, limit.name);
      say(of, limit.of);
      say(used, count(limit.used));
      say(most, count(limit.limit));
    },
  };
}
