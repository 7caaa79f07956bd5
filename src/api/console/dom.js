// Small tools for the page. Text is always text here: nothing is ever parsed as markup.

/** The element with this id; the page has it. */
export const byId = (id) => document.getElementById(id);

/** An element with attributes (`on…`: a listener) and children (texts, elements, or nothing). */
export function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value === true) element.setAttribute(key, "");
    else if (value !== false && value != null) element.setAttribute(key, value);
  }
  element.append(...children.filter((child) => child != null));
  return element;
}

/** Sets a text if it differs, so that screen readers and selections are not disturbed. */
export function say(element, text) {
  if (element.textContent !== String(text)) element.textContent = text;
}

/** Sets an attribute if it differs; null or false removes it. */
export function mark(element, name, value) {
  if (value == null || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value === true ? "" : value);
}

/**
 * Updates the children of `parent` to those of `items`, in their order. A child stays the same element while its key is
 * there, so focus, selection and listeners stay with it. `make(item)` gives `{ element, update(item) }`.
 */
export function keep(parent, items, key, make) {
  const kept = parent.kept ?? (parent.kept = new Map());
  const wanted = new Set(items.map(key));
  for (const [id, child] of kept) {
    if (wanted.has(id)) continue;
    leave(child.element, parent);
    child.element.remove();
    kept.delete(id);
  }
  let before = parent.firstElementChild;
  for (const item of items) {
    const id = key(item);
    let child = kept.get(id);
    if (!child) kept.set(id, (child = make(item)));
    child.update?.(item);
    if (child.element === before) before = before.nextElementSibling;
    else parent.insertBefore(child.element, before);
  }
}

/** Moves the focus from a removed element to the region around it. */
function leave(element, parent) {
  if (element.contains(document.activeElement)) (parent.closest("[tabindex]") ?? byId("main")).focus({ preventScroll: true });
}

/** Table rows, updated by `keep`; without any, one row with the text `nothing`. */
export function rows(body, items, key, make, nothing) {
  const headings = [...body.closest("table").tHead.rows[0].cells];
  const columns = headings.length;
  const empty = () => ({ element: el("tr", { class: "none" }, el("td", { colspan: columns }, nothing)) });
  const known = (item) => (item === undefined ? "" : `=${key(item)}`);
  keep(body, items.length ? items : [undefined], known, (item) => (item === undefined ? empty() : named(make(item), headings)));
}

/** In a small window a row is a card and each cell shows its heading; the roles stay those of a table. */
function named(row, headings) {
  [...row.element.cells].forEach((cell, n) => {
    mark(cell, "data-name", headings[n].textContent);
    mark(cell, "role", cell.tagName === "TH" ? "rowheader" : "cell");
  });
  mark(row.element, "role", "row");
  return row;
}

/** The options of a select, from `[value, text]` pairs; the chosen one stays chosen while it exists. */
export function options(select, pairs) {
  const now = JSON.stringify(pairs);
  if (select.shown === now) return;
  const chosen = select.value;
  select.shown = now;
  select.replaceChildren(...pairs.map(([value, text]) => el("option", { value }, text)));
  if (pairs.some(([value]) => value === chosen)) select.value = chosen;
}

/** The style of a state by its first letters in lower case; unknown states are neutral. */
const LOOKS = [
  ["good", ["available", "healthy", "ready", "serving", "primary", "in dns"]],
  ["bad", ["failed", "unhealthy", "rejected", "not ready", "lost", "refused", "critical", "down", "gone", "not in dns"]],
  ["pending", ["warning", "pending", "creating", "initial", "connecting", "draining", "deleting", "shifted", "paused", "to come", "on"]],
];

/** A state as a coloured word; the colour adds no information. */
export function pill(text) {
  const element = el("span", { class: "pill" });
  const update = (text) => {
    const lower = text.toLowerCase();
    const look = LOOKS.find(([, words]) => words.some((word) => lower.startsWith(word)))?.[0] ?? "neutral";
    say(element, text);
    mark(element, "class", `pill ${look}`);
  };
  update(text);
  return { element, update };
}

/** Copies a text; false when the browser refuses. Off localhost without TLS only the old API is available. */
export async function copy(text, field) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    field.focus();
    field.select();
    return document.execCommand("copy");
  }
}
