// Tables with search and sorting. A heading with `data-sort` sorts by the function of that name in `columns`.

import { byId, el, mark, rows, say } from "./dom.js";

const compare = (a, b) => (typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true }));

/**
 * The table with the body `body`. `key` and `make` are as in `rows`; `text(item)` is the text for the search;
 * `columns` has the sort keys by name; `order` is the initial sort key; `nothing`
 * is shown without items. `most`: the maximum of rows.
 */
export function table(body, { key, make, text, columns = {}, order, nothing, most = 500 }) {
  const place = byId(body);
  const search = document.querySelector(`[data-search="${body}"]`);
  const hint = document.querySelector(`[data-hint="${body}"]`);
  let [items, by, down] = [[], order, false];
  const headings = [...place.closest("table").tHead.rows[0].cells].filter((cell) => cell.dataset.sort);
  for (const heading of headings) {
    const name = heading.dataset.sort;
    const press = () => {
      [by, down] = [name, by === name && !down];
      draw();
    };
    heading.replaceChildren(el("button", { type: "button", class: "sort", onclick: press }, heading.textContent));
  }
  search?.addEventListener("input", draw);

  function draw() {
    const words = (search?.value ?? "").toLowerCase().split(/\s+/).filter(Boolean);
    const fitting = items.filter((item) => {
      const of = words.length ? text(item).toLowerCase() : "";
      return words.every((word) => of.includes(word));
    });
    const value = columns[by];
    const sorted = value ? fitting.map((item, n) => [value(item), n, item]).sort((a, b) => (down ? compare(b[0], a[0]) : compare(a[0], b[0])) || a[1] - b[1]).map(([, , item]) => item) : fitting;
    for (const heading of headings) mark(heading, "aria-sort", heading.dataset.sort === by && (down ? "descending" : "ascending"));
    const shown = sorted.slice(0, most);
    if (hint) say(hint, shown.length === items.length ? "" : `${shown.length} of ${items.length} are shown`);
    rows(place, shown, key, make, words.length && items.length ? "Nothing fits the search." : nothing);
  }

  return (latest) => {
    items = latest;
    draw();
  };
}

/** The severity of a state; the worst come first. */
export const badness = (state) => ["unhealthy", "unhealthy.draining", "draining", "initial", "unused", "healthy"].indexOf(state);
