// Private endpoints with the two statuses of Atlas' Private Endpoint tab, and the pace at which they change.

import { byId, el, keep, pill, rows, say } from "./dom.js";
import { act, failed } from "./notices.js";
import { post, put } from "./v1.js";

export function start(refresh) {
  byId("pace").addEventListener("change", async ({ target }) => {
    try {
      await put("lifecycle", { pace: target.value });
    } catch (error) {
      failed("The pace stays", error);
    }
    await refresh();
  });
  byId("push").addEventListener("click", (event) =>
    act(event.currentTarget, "No step was taken", async () => {
      const { pushed } = await post("lifecycle/push");
      await refresh();
      return pushed ? "The next step is taken" : "Nothing is on its way to another state";
    }),
  );
}

/** One row per endpoint; a service without any has one row too, *Not configured* as in Atlas. */
export function lines(services) {
  return services.flatMap((service) =>
    service.endpoints.length ? service.endpoints.map((endpoint) => ({ service, endpoint })) : [{ service, endpoint: null }],
  );
}

export const lineKey = ({ service, endpoint }) => `${service.id} ${endpoint?.id ?? ""}`;
export const endpointStatus = (endpoint) => endpoint?.status ?? "Not configured";

export function show({ services, pace }) {
  const select = byId("pace");
  if (document.activeElement !== select) select.value = pace.pace;
  const atlas = services.filter((service) => service.kind === "atlas");
  rows(byId("endpoint-rows"), lines(atlas), lineKey, makeRow, "No private endpoint yet: create an endpoint service by Atlas' API, or name one in the config.");
}

function makeRow() {
  const [region, project, remote] = [el("span"), el("span", { class: "quiet below" }), el("span", { class: "quiet below" })];
  const name = el("code", { class: "long" });
  const [serviceStatus, status] = [pill(""), pill("")];
  const [serviceError, error] = [el("span", { class: "problem below" }), el("span", { class: "problem below" })];
  const [id, vpc, from] = [el("code"), el("code", { class: "quiet whole" }), el("span", { class: "quiet whole" })];
  const addresses = el("ul", { class: "bare whole" });
  const element = el(
    "tr", {},
    el("td", { class: "nowrap" }, region, project, remote),
    el("td", {}, name),
    el("td", { class: "service-status" }, serviceStatus.element, serviceError),
    el("th", { scope: "row" }, id),
    el("td", { class: "endpoint-status" }, status.element, error),
    el("td", {}, vpc, from, addresses),
  );
  return {
    element,
    update({ service, endpoint }) {
      say(region, `${service.provider} ${service.region}`);
      say(project, service.project_name ?? service.project ?? "");
      say(remote, service.supported_remote_regions.length ? `also from ${service.supported_remote_regions.join(", ")}` : "");
      say(name, service.name);
      serviceStatus.update(service.status);
      say(serviceError, service.error ?? "");
      say(id, endpoint?.id ?? "–");
      status.update(endpointStatus(endpoint));
      say(error, endpoint?.error ?? "");
      say(vpc, endpoint?.vpc ?? "");
      say(from, endpoint?.region && endpoint.region !== service.region ? `in ${endpoint.region}` : "");
      keep(addresses, endpoint?.addresses ?? [], (address) => address.ip, makeAddress);
    },
  };
}

function makeAddress() {
  const [zone, ip] = [el("span", { class: "zone" }), el("code")];
  return {
    element: el("li", {}, zone, " ", ip),
    update(address) {
      say(zone, address.zone);
      say(ip, address.ip);
    },
  };
}
