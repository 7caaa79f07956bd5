// Numbers and times in readable form.

const UNITS = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];

/** `1.5 KiB`. */
export function bytes(n) {
  const step = n < 1 ? 0 : Math.min(Math.floor(Math.log2(n) / 10), UNITS.length - 1);
  const value = n / 1024 ** step;
  return `${step === 0 || value >= 100 ? Math.round(value) : value.toFixed(1)} ${UNITS[step]}`;
}

/** `1.5 KiB/s`. */
export const rate = (n) => `${bytes(n)}/s`;

/** `12,345`. */
export const count = (n) => n.toLocaleString("en-US");

/** `42 s`, `3 min 5 s`, `2 h 10 min`, `4 d 3 h`. */
export function duration(seconds) {
  const whole = Math.floor(seconds);
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${whole % 60} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${Math.floor((whole % 3600) / 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor((whole % 86400) / 3600)} h`;
}

/** `on_premises` as `on premises`. */
export const words = (label) => label.replaceAll("_", " ").replaceAll("-", " ");

/** A time of `/v1` in local time. */
export const moment = (text) => new Date(text).toLocaleTimeString();

/** The same in milliseconds, with fixed width, and with the date unless it is today. */
export function clock(text) {
  const at = new Date(text);
  const two = (n) => String(n).padStart(2, "0");
  const time = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}.${String(at.getMilliseconds()).padStart(3, "0")}`;
  return at.toDateString() === new Date().toDateString() ? time : `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${time}`;
}
