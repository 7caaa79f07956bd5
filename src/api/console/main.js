// Polls the gateway, and passes the answers to the sections.

import * as apps from "./apps.js";
import { byId, el, mark, say } from "./dom.js";
import * as endpoints from "./endpoints.js";
import * as events from "./events.js";
import * as faults from "./faults.js";
import * as flows from "./flows.js";
import * as gateways from "./gateways.js";
import * as limits from "./limits.js";
import { failed } from "./notices.js";
import * as overview from "./overview.js";
import * as standins from "./standins.js";
import * as strings from "./strings.js";
import * as targets from "./targets.js";
import * as topology from "./topology.js";
import { Lost, Refused, get, hasToken, setToken } from "./v1.js";
import * as zones from "./zones.js";

/** Between two rounds, in milliseconds. */
const EVERY = 2_000;

/** The wait after a poll without an answer: this, doubled each time, up to the second value. */
const BACK_OFF = [1_000, 15_000];

/** The wait after too many wrong tokens; the gateway's limit resets in a minute. */
const SHUT_OUT = 20_000;

const SECTIONS = [overview, topology, events, targets, endpoints, zones, gateways, faults, standins, flows, strings, apps, limits];

let now = null;
let hasStandins = true;
let seenAt = null;
let stringsOf = null;
let misses = 0;
let timer = null;
let round = null;
let complaint = null;

/** All answers of the gateway for one round. */
async function read() {
  // One request first: it shows whether a token is needed.
  const status = await get("status");
  const wanted = {
    services: get("private-endpoints"),
    targets: get("targets"),
    apps: get("apps"),
    pace: get("lifecycle"),
    faults: get("faults"),
    zones: get("zones"),
    gateways: get("gateways"),
    limits: get("limits"),
    throughput: get("throughput"),
    flows: flows.isListed(status) ? get("flows") : null,
    strings: stringsOf === status.generation ? null : get("connection-strings"),
    events: get(events.path()),
    standins: hasStandins ? get("standins").catch(withoutStandins) : null,
  };
  const answers = await Promise.all(Object.values(wanted));
  const told = Object.fromEntries(Object.keys(wanted).map((key, at) => [key, answers[at]]));
  if (told.strings) stringsOf = status.generation;
  events.take(told.events);
  return {
    status,
    services: told.services.private_endpoints,
    targets: told.targets.targets.map(withUnresolved),
    apps: told.apps.apps,
    pace: told.pace,
    faults: told.faults.faults,
    zones: told.zones.zones,
    gateways: told.gateways,
    limits: told.limits,
    flows: told.flows?.flows ?? null,
    strings: told.strings?.connection_strings ?? now.strings,
    standins: told.standins?.members ?? null,
    throughput: told.throughput,
    hasRates: Boolean(now),
    rates: rates(now?.throughput, told.throughput),
  };
}

/** Nodes with unresolved host names are shown among the members. */
function withUnresolved(target) {
  const unresolved = target.unresolved.map((member) => ({ ...member, state: "unresolved", reach: null }));
  return { ...target, members: [...target.members, ...unresolved] };
}

/** A gateway with real servers has no stand-ins: they are not requested again. */
function withoutStandins(error) {
  if (!(error instanceof Refused && error.status === 404)) throw error;
  hasStandins = false;
  return null;
}

/** The rate since the last round. The counters of a restarted gateway begin at 0. */
function rates(before, after) {
  const seconds = before ? (after.at_ms - before.at_ms) / 1000 : 0;
  const of = (then, carried) =>
    Object.fromEntries(Object.entries(carried).map(([key, n]) => [key, seconds > 0 ? Math.max(0, n - (then?.[key] ?? 0)) / seconds : 0]));
  const targets = Object.entries(after.targets).map(([id, carried]) => [id, of(before?.targets[id], carried)]);
  return { total: of(before?.total, after.total), targets: Object.fromEntries(targets) };
}

/** Polls once. A call while another poll is under way gets one that begins after it. */
function refresh() {
  const after = round ?? Promise.resolve();
  const own = after.then(once).finally(() => {
    if (round === own) round = null;
  });
  round = own;
  return own;
}

async function once() {
  clearTimeout(timer);
  let wait = EVERY;
  try {
    now = await read();
    misses = 0;
    complaint = null;
    banner(null);
    for (const section of SECTIONS) section.show(now);
    seenAt = new Date();
    document.body.classList.remove("stale");
    byId("main").removeAttribute("aria-busy");
    byId("forget-token").hidden = !hasToken();
  } catch (error) {
    wait = missed(error);
  }
  clearTimeout(timer);
  if (wait !== null && !document.hidden) timer = setTimeout(refresh, wait);
}

/** Shows why polling failed; returns the wait until the next try, null for none. */
function missed(error) {
  document.body.classList.add("stale");
  if (error instanceof Refused && error.status === 401) {
    askForToken();
    return null;
  }
  if (error instanceof Refused && error.status === 429) {
    banner(`The gateway says: ${error.message}`);
    return SHUT_OUT;
  }
  misses += 1;
  const wait = Math.min(BACK_OFF[0] * 2 ** (misses - 1), BACK_OFF[1]);
  if (error instanceof Lost) {
    say(byId("state").firstChild, "lost");
    mark(byId("state").firstChild, "class", "pill bad");
    banner(`The gateway doesn't answer (${error.message}). What is shown is of ${seenAt ? seenAt.toLocaleTimeString() : "an earlier time"}.`);
  } else {
    banner(error instanceof Refused ? `The gateway says: ${error.message}` : `This page made a mistake: ${error.message}`);
    if (!(error instanceof Refused)) console.error(error);
  }
  return wait;
}

function banner(text) {
  const place = byId("banner");
  if (complaint === text && text !== null) return;
  complaint = text;
  place.hidden = text === null;
  place.replaceChildren(...(text === null ? [] : [el("span", {}, text), el("button", { type: "button", onclick: refresh }, "Try now")]));
}

function askForToken() {
  banner(null);
  const dialog = byId("token");
  say(byId("token-problem"), hasToken() ? "That is not this gateway's token." : "");
  setToken(null);
  byId("token-value").value = "";
  if (!dialog.open) dialog.showModal();
  byId("token-value").focus();
}

function startToken() {
  byId("token-form").addEventListener("submit", (event) => {
    event.preventDefault();
    setToken(byId("token-value").value);
    byId("token").close();
    void refresh();
  });
  // Without a token there is no former state.
  byId("token").addEventListener("cancel", (event) => event.preventDefault());
  byId("forget-token").addEventListener("click", () => {
    setToken(null);
    location.reload();
  });
}

function startTheme() {
  const select = byId("theme");
  const root = document.documentElement;
  select.value = root.dataset.theme ?? "";
  select.addEventListener("change", () => {
    if (select.value) root.dataset.theme = select.value;
    else delete root.dataset.theme;
    try {
      if (select.value) localStorage.setItem("plgw-theme", select.value);
      else localStorage.removeItem("plgw-theme");
    } catch {
      // Storage is off: keep the choice as long as the page.
    }
  });
}

/** Marks the link of the visible section as current; a clicked one stays current until the user scrolls. */
function startNavigation() {
  const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.hash.slice(1), link]));
  const frame = document.querySelector(".frame");
  let chosen = null;
  const follow = () => {
    // The reference line moves from the top of the window to its end while the page scrolls, so every section becomes current.
    const progress = frame.scrollTop / Math.max(1, frame.scrollHeight - frame.clientHeight);
    const line = frame.getBoundingClientRect().top + 40 + progress * frame.clientHeight;
    const above = [...links.keys()].filter((id) => !byId(id).hidden && byId(id).getBoundingClientRect().top <= line);
    const current = chosen ?? above.at(-1) ?? "overview";
    for (const [id, link] of links) mark(link, "aria-current", id === current && "true");
  };
  const choose = () => {
    chosen = links.has(location.hash.slice(1)) ? location.hash.slice(1) : null;
    follow();
  };
  frame.addEventListener("scroll", follow, { passive: true });
  for (const kind of ["wheel", "touchmove", "keydown"]) window.addEventListener(kind, () => (chosen = null), { passive: true });
  window.addEventListener("hashchange", choose);
  for (const link of links.values()) link.addEventListener("click", () => setTimeout(choose));
  choose();
}

/** Scrollable regions can be focused by keys; others are skipped. */
function startScrolling() {
  const observer = new ResizeObserver(() => {
    for (const box of document.querySelectorAll(".scroll")) {
      const scrolls = box.scrollWidth > box.clientWidth || box.scrollHeight > box.clientHeight;
      mark(box, "tabindex", scrolls ? "0" : null);
    }
  });
  for (const box of document.querySelectorAll(".scroll")) {
    observer.observe(box);
    observer.observe(box.firstElementChild);
  }
}

startTheme();
startScrolling();
startToken();
startNavigation();
mark(byId("main"), "aria-busy", "true");
for (const section of SECTIONS) section.start?.(refresh);
document.addEventListener("visibilitychange", () => {
  if (!document.hidden && !byId("token").open) void refresh();
});
window.addEventListener("unhandledrejection", ({ reason }) => failed("This page made a mistake", reason));
void refresh();
