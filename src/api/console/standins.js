// The stand-in replica sets' members, where the gateway has some: stop, start, step down.

import { byId, el, pill, say } from "./dom.js";
import { act } from "./notices.js";
import { table } from "./table.js";
import { part, post } from "./v1.js";

let refresh;
let draw;

export function start(refreshed) {
  refresh = refreshed;
  draw = table("standin-rows", {
    key: ({ cluster, member }) => `${cluster}/${member}`,
    make: makeRow,
    text: ({ cluster, member, state }) => `${cluster}/${member} ${state}`,
    columns: { member: ({ cluster, member }) => `${cluster}/${member}`, state: ({ state }) => state },
    nothing: "No stand-in.",
  });
}

export function show({ standins }) {
  byId("standins").hidden = !standins;
  document.querySelector('nav a[href="#standins"]').parentElement.hidden = !standins;
  if (standins) draw(standins);
}

function makeRow({ cluster, member, zone }) {
  const name = `${cluster}/${member}`;
  const [state, apart] = [pill(""), el("span", { class: "quiet below" })];
  const order = (text, path, done) => {
    const button = el("button", { type: "button" }, text, el("span", { class: "unseen" }, ` ${name}`));
    button.addEventListener("click", () =>
      act(button, `${name} stays as it is`, async () => {
        await post(`standins/${path}`);
        await refresh();
        return `${name} ${done}`;
      }),
    );
    return button;
  };
  const stop = order("Stop", `${part(cluster)}/${part(member)}/stop`, "is stopped");
  const begin = order("Start", `${part(cluster)}/${part(member)}/start`, "is started");
  const down = order("Step down", `${part(cluster)}/step-down`, "hands over");
  return {
    element: el("tr", {}, el("th", { scope: "row" }, el("code", {}, name)), el("td", {}, zone), el("td", {}, state.element, apart), el("td", {}, el("div", { class: "actions" }, down, stop, begin))),
    update(shown) {
      const label = shown.state.toLowerCase();
      state.update(label[0].toUpperCase() + label.slice(1));
      say(apart, shown.isolated ? "cut off from the other members" : "");
      const runs = label !== "down";
      stop.hidden = !runs;
      begin.hidden = runs;
      down.hidden = label !== "primary";
    },
  };
}
