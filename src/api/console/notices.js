// What was done, what was refused, and what changed by itself.

import { byId, el } from "./dom.js";

/** How long what went well is shown; what was refused stays until it is closed. */
const SHOWN_MS = 6_000;

/** Notices at once; the oldest goes. */
const MOST = 3;

/** Says a change to screen readers; on the page it shows by itself. */
export function announce(text) {
  const line = el("p", {}, text);
  byId("live").append(line);
  setTimeout(() => line.remove(), SHOWN_MS);
}

/** Shows that something was done. */
export function done(text) {
  const notice = show("done", "status", text);
  setTimeout(() => notice.remove(), SHOWN_MS);
}

/** Shows the gateway's own words for why not. */
export function failed(what, error) {
  show("failed", "alert", `${what}: ${error.message}`);
}

function show(look, role, text) {
  const line = el("span", {}, text);
  const notice = el("div", { class: `notice ${look}`, role }, line);
  notice.append(el("button", { type: "button", class: "plain", "aria-label": `Close: ${text}`, onclick: () => notice.remove() }, "Close"));
  const notices = byId("notices");
  notices.append(notice);
  while (notices.children.length > MOST) notices.firstElementChild.remove();
  return notice;
}

/**
 * Does something that the gateway is asked for by a button: meanwhile the button is busy (and can't be pressed twice),
 * and what came of it is shown.
 */
export async function act(button, what, work) {
  if (button.getAttribute("aria-disabled") === "true") return false;
  button.setAttribute("aria-disabled", "true");
  try {
    const text = await work();
    if (text) done(text);
    return true;
  } catch (error) {
    failed(what, error);
    return false;
  } finally {
    button.removeAttribute("aria-disabled");
  }
}
