// A small line of the last rates, drawn as SVG by attributes alone (the policy forbids inline style).

const NAMESPACE = "http://www.w3.org/2000/svg";

/** Its span in milliseconds. */
const KEPT = 120_000;

const WIDTH = 96;
const HEIGHT = 22;

/** The rates are stored under this name, so that they survive a reload of the page in this tab. */
const KEY = "plgw-rates";

/** Rates as `[time, rate]` by the name of the line. */
const history = new Map();
try {
  const kept = Object.entries(JSON.parse(sessionStorage.getItem(KEY) ?? "{}"));
  for (const [name, rates] of kept) history.set(name, rates.filter(([at]) => Date.now() - at < KEPT));
} catch {
  // Storage is off or has other content: the lines begin now.
}
window.addEventListener("pagehide", () => {
  try {
    sessionStorage.setItem(KEY, JSON.stringify(Object.fromEntries(history)));
  } catch {
    // As above.
  }
});

export function svg(name, attributes, ...children) {
  const element = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) if (value != null) element.setAttribute(key, value);
  element.append(...children);
  return element;
}

/** The sparkline of this name; its number is shown next to it, so it is hidden from screen readers. */
export function sparkline(name) {
  const area = svg("path", { class: "area" });
  const line = svg("path", { class: "line" });
  const element = svg("svg", {
    class: "sparkline", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT, preserveAspectRatio: "none",
    "aria-hidden": "true", focusable: "false",
  });
  element.append(svg("path", { class: "base", d: `M0 ${HEIGHT - 0.5}H${WIDTH}` }), area, line);
  const push = (rate) => {
    const now = Date.now();
    const rates = (history.get(name) ?? []).filter(([at]) => now - at < KEPT && at <= now);
    rates.push([now, rate]);
    history.set(name, rates);
    const most = Math.max(...rates.map(([, rate]) => rate), 1);
    const points = rates.map(([at, rate]) => {
      const x = WIDTH * (1 - (now - at) / KEPT);
      return `${x.toFixed(1)} ${(HEIGHT - 1.5 - (rate / most) * (HEIGHT - 3)).toFixed(1)}`;
    });
    const first = points[0].split(" ")[0];
    line.setAttribute("d", `M${points.join("L")}`);
    area.setAttribute("d", `M${first} ${HEIGHT}L${points.join("L")}L${WIDTH} ${HEIGHT}Z`);
  };
  return { element, push };
}
