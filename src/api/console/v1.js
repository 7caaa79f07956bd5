// Requests to the gateway: `/v1` at this page's own address, with the token if there is one.

const KEY = "plgw-token";

/** A refusal of `/v1`, with its message. */
export class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** There was no answer. */
export class Lost extends Error {}

let token = null;
try {
  token = sessionStorage.getItem(KEY);
} catch {
  // Storage is off: keep the token as long as the page.
}

export const hasToken = () => token !== null;

// `plgw lab console` prints a link with the token behind its `#`: no request carries it, and it does not stay in the history.
const LINK = "#token=";
if (location.hash.startsWith(LINK)) {
  setToken(location.hash.slice(LINK.length));
  history.replaceState(null, "", location.pathname);
}

export function setToken(value) {
  token = value;
  try {
    if (value === null) sessionStorage.removeItem(KEY);
    else sessionStorage.setItem(KEY, value);
  } catch {
    // As above.
  }
}

/** The timeout after which the gateway counts as lost. */
const PATIENCE_MS = 15_000;

async function ask(method, path, body) {
  const headers = {};
  if (token !== null) headers.authorization = `Bearer ${token}`;
  if (body !== undefined) headers["content-type"] = "application/json";
  let answer, text;
  try {
    answer = await fetch(`/v1/${path}`, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      cache: "no-store",
      credentials: "omit",
      redirect: "error",
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
    text = await answer.text();
  } catch (error) {
    throw new Lost(error.name === "TimeoutError" ? "no answer in time" : "no connection");
  }
  let json = null;
  try {
    json = text === "" ? null : JSON.parse(text);
  } catch {
    if (answer.ok) throw new Refused(answer.status, "not_json", `${method} /v1/${path} was answered with no JSON`);
  }
  if (!answer.ok) {
    throw new Refused(answer.status, json?.code ?? "unknown", json?.message ?? `${method} /v1/${path}: HTTP ${answer.status}`);
  }
  return json;
}

export const get = (path) => ask("GET", path);
export const post = (path, body) => ask("POST", path, body);
export const put = (path, body) => ask("PUT", path, body);
export const patch = (path, body) => ask("PATCH", path, body);
export const remove = (path) => ask("DELETE", path);

/** A part of a path. */
export const part = encodeURIComponent;
