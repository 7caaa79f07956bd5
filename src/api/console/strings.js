// Connection strings, chosen as in Atlas' Connect dialog: deployment, connection type, private endpoint, format.

import { byId, copy, mark, options, say } from "./dom.js";
import { done, failed } from "./notices.js";

let strings = [];

export function start() {
  byId("connect-form").addEventListener("change", choose);
  byId("connect-form").addEventListener("submit", (event) => event.preventDefault());
  byId("copy-string").addEventListener("click", async () => {
    const field = byId("connection-string");
    if (await copy(field.value, field)) done("The connection string is on the clipboard");
    else failed("The connection string was not copied", new Error("the browser doesn't allow it; it is selected now"));
  });
}

export function show(now) {
  strings = now.strings;
  choose();
}

const clusterKey = (cluster) => `${cluster.project} ${cluster.cluster}`;

/** The formats of a cluster's private strings, the recommended one first. */
function privateFormats(group) {
  return [
    group.srv_shard_optimized_connection_string && ["optimized", "DNS seedlist connection, optimized for sharded clusters", group.srv_shard_optimized_connection_string],
    group.srv_connection_string !== group.srv_shard_optimized_connection_string && ["srv", "DNS seedlist connection (recommended)", group.srv_connection_string],
    ["list", "Standard connection string", group.connection_string],
  ].filter(Boolean);
}

function choose() {
  const severalProjects = new Set(strings.map((cluster) => cluster.project)).size > 1;
  const name = (cluster) => (severalProjects ? `${cluster.cluster} (project ${cluster.project})` : cluster.cluster);
  options(byId("connect-cluster"), strings.map((cluster) => [clusterKey(cluster), name(cluster)]));
  const cluster = strings.find((cluster) => clusterKey(cluster) === byId("connect-cluster").value);
  const isPrivate = byId("connect-type").value === "private";
  const groups = cluster?.private ?? [];
  byId("connect-endpoint-field").hidden = !isPrivate;
  const through = (group) => group.endpoints.map(([id, region]) => `${region}: ${id}`).join(", ");
  options(byId("connect-endpoint"), groups.map((group, n) => [`${n}`, through(group)]));
  let formats = [];
  if (cluster && isPrivate) {
    const group = groups[Number(byId("connect-endpoint").value)];
    formats = group ? privateFormats(group) : [];
  } else if (cluster?.is_public) {
    formats = [
      ["srv", "DNS seedlist connection (recommended)", cluster.standard_srv],
      ["list", "Standard connection string", cluster.standard],
    ];
  }
  options(byId("connect-format"), formats.map(([key, name]) => [key, name]));
  const chosen = formats.find(([key]) => key === byId("connect-format").value);
  const field = byId("connection-string");
  if (field.value !== (chosen?.[2] ?? "")) field.value = chosen?.[2] ?? "";
  mark(byId("copy-string"), "disabled", !chosen);
  say(byId("connect-hint"), hint(cluster, isPrivate, chosen?.[0]));
}

function hint(cluster, isPrivate, format) {
  if (!cluster) return "There is no database deployment.";
  if (isPrivate && format === undefined) return `There is no private endpoint-aware string: ${cluster.unavailable ?? "no endpoint is available"}.`;
  if (isPrivate && format === "list") return "This string names ports. They can change; the DNS seedlist string follows them.";
  if (isPrivate) return "For clients in the endpoint's VPC, in VPCs peered with it, and on premises by Direct Connect. DNS updates the ports if they change.";
  if (!cluster.is_public) return "There is no standard string: no node has a public address.";
  return "For clients on the project's IP access list.";
}
