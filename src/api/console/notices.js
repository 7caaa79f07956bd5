// Notices of completed and refused actions, and of changes.

import { byId, el } from "./dom.js";

/** How long a success is shown; a refusal stays until it is closed. */
const SHOWN_MS = 6_000;

/** The maximum of notices; the oldest is removed. */
const MOST = 3;

/** Announces a change to screen readers; on the page it is visible. */
export function announce(text) {
  const line = el("p", {}, text);
  byId("live").append(line);
  setTimeout(() => line.remove(), SHOWN_MS);
}

/** Shows a success. */
export function done(text) {
  const notice = show("done", "status", text);
  setTimeout(() => notice.remove(), SHOWN_MS);
}

/** Shows the gateway's reason for a refusal. */
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
 * Sends a button's request to the gateway: meanwhile the button is busy (and can't be pressed twice),
 * and then the result is shown.
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
