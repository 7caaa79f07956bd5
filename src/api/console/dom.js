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

/** Sets a text, if it is another one: a screen reader or a selection isn't disturbed for nothing. */
export function say(element, text) {
  if (element.textContent !== String(text)) element.textContent = text;
}

/** Sets an attribute, if it is another one; null or false takes it away. */
export function mark(element, name, value) {
  if (value == null || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, value === true ? "" : value);
}

/**
 * Makes the children of `parent` those of `items`, in their order. A child stays the same element while its key is
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

/** Focus that would be lost with an element goes to the region around it. */
function leave(element, parent) {
  if (element.contains(document.activeElement)) (parent.closest("[tabindex]") ?? byId("main")).focus({ preventScroll: true });
}

/** Table rows as `keep` makes children; with none, one row says `nothing`. */
export function rows(body, items, key, make, nothing) {
  const headings = [...body.closest("table").tHead.rows[0].cells];
  const columns = headings.length;
  const empty = () => ({ element: el("tr", { class: "none" }, el("td", { colspan: columns }, nothing)) });
  const known = (item) => (item === undefined ? "" : `=${key(item)}`);
  keep(body, items.length ? items : [undefined], known, (item) => (item === undefined ? empty() : named(make(item), headings)));
}

/** In a small window a row is a card and each cell says its heading; the roles stay what they are in a table. */
function named(row, headings) {
  [...row.element.cells].forEach((cell, n) => {
    mark(cell, "data-name", headings[n].textContent);
    mark(cell, "role", cell.tagName === "TH" ? "rowheader" : "cell");
  });
  mark(row.element, "role", "row");
  return row;
}

/** The options of a select, from `[value, text]` pairs; what was chosen stays chosen while it is there. */
export function options(select, pairs) {
  const now = JSON.stringify(pairs);
  if (select.shown === now) return;
  const chosen = select.value;
  select.shown = now;
  select.replaceChildren(...pairs.map(([value, text]) => el("option", { value }, text)));
  if (pairs.some(([value]) => value === chosen)) select.value = chosen;
}

/** How a state looks, by its first letters in lower case; what isn't known looks neutral. */
const LOOKS = [
  ["good", ["available", "healthy", "ready", "serving", "primary", "in dns"]],
  ["bad", ["failed", "unhealthy", "rejected", "not ready", "lost", "refused", "critical", "down", "gone", "not in dns"]],
  ["pending", ["warning", "pending", "creating", "initial", "connecting", "draining", "deleting", "shifted", "paused", "to come", "on"]],
];

/** A state as a coloured word; the word alone says it. */
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

/** Copies a text; false when the browser doesn't let it. Off localhost without TLS only the old way is there. */
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
