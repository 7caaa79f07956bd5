// Runs before the page is painted, so that a chosen theme doesn't flash the other one. Not a module: those wait.
"use strict";
{
  const KEY = "plgw-theme";
  let chosen = null;
  try {
    chosen = localStorage.getItem(KEY);
  } catch {
    // Storage is off: use the system's theme.
  }
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
}
