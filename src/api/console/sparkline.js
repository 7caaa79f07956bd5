// A small line of the last rates, drawn as SVG by attributes alone (the policy forbids inline style).

const NAMESPACE = "http://www.w3.org/2000/svg";

/** How many rates are kept: two minutes at one every two seconds. */
const KEPT = 60;

const WIDTH = 96;
const HEIGHT = 22;

function svg(name, attributes) {
  const element = document.createElementNS(NAMESPACE, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

/** A sparkline; beside it stands its number, so it is hidden from screen readers. */
export function sparkline() {
  const area = svg("path", { class: "area" });
  const line = svg("path", { class: "line" });
  const element = svg("svg", {
    class: "sparkline", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT, preserveAspectRatio: "none",
    "aria-hidden": "true", focusable: "false",
  });
  element.append(svg("path", { class: "base", d: `M0 ${HEIGHT - 0.5}H${WIDTH}` }), area, line);
  const rates = [];
  const push = (rate) => {
    rates.push(rate);
    if (rates.length > KEPT) rates.shift();
    const most = Math.max(...rates, 1);
    const at = (rate, n) => {
      const x = WIDTH - (rates.length - 1 - n) * (WIDTH / (KEPT - 1));
      return `${x.toFixed(1)} ${(HEIGHT - 1.5 - (rate / most) * (HEIGHT - 3)).toFixed(1)}`;
    };
    const points = rates.map(at);
    const first = points[0].split(" ")[0];
    line.setAttribute("d", `M${points.join("L")}`);
    area.setAttribute("d", `M${first} ${HEIGHT}L${points.join("L")}L${WIDTH} ${HEIGHT}Z`);
  };
  return { element, push };
}
