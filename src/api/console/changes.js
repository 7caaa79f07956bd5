// Says to screen readers what changed by itself between two rounds; eyes see it.

import { endpointStatus } from "./endpoints.js";
import { announce } from "./notices.js";
import { targetKey } from "./targets.js";

/** What is watched: names with what is said of them. */
function facts({ status, services, targets, apps, faults, zones }) {
  const told = new Map([["The gateway", status.readiness.ready ? "ready" : "not ready"]]);
  for (const service of services) {
    told.set(`Endpoint service ${service.name}`, service.status);
    for (const endpoint of service.endpoints) told.set(`Endpoint ${endpoint.id}`, endpointStatus(endpoint));
  }
  for (const target of targets) {
    told.set(`Target ${target.id}`, target.state);
    told.set(`The port of ${targetKey(target)}`, `${target.port}`);
  }
  for (const app of apps) told.set(`App ${app.id}`, app.restricted ? "restricted" : "open to requests from outside its VPC");
  for (const fault of faults) told.set(`Fault ${fault.name}`, "on");
  for (const zone of zones) told.set(`Zone ${zone.zone} of ${zone.service}`, zone.shifted ? "shifted away from" : zone.healthy ? "healthy" : "unhealthy");
  return told;
}

export function tell(before, now) {
  if (!before) return;
  const [then, told] = [facts(before), facts(now)];
  for (const [name, state] of told) if (then.get(name) !== state) announce(`${name} is ${state}`);
  for (const name of then.keys()) if (!told.has(name)) announce(`${name} is gone`);
}
