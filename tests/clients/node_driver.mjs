// What the Node driver does in `node_driver.py`, one step a word on the command line; prints one JSON value.
//
// node node_driver.mjs MODULES CA STEP …

import assert from "node:assert/strict";
import { createRequire } from "node:module";
import http from "node:http";

const [modules, tlsCAFile, step, ...rest] = process.argv.slice(2);
const { MongoClient } = createRequire(`${modules}/`)("mongodb");

const SRV = "mongodb+srv://cluster0-pl-0-k45tj.mongodb.net";
const options = { tlsCAFile, serverSelectionTimeoutMS: 30_000, heartbeatFrequencyMS: 500 };

const nodes = (client) => [...client.topology.description.servers.keys()].sort();

async function eventually(what, look) {
  const deadline = Date.now() + 60_000;
  for (;;) {
    try {
      return await look();
    } catch (error) {
      if (Date.now() > deadline) throw new Error(`${what}: not in time; last seen: ${error}`, { cause: error });
    }
    await new Promise((wake) => setTimeout(wake, 50));
  }
}

function move(target) {
  return new Promise((resolve, reject) => {
    const headers = { "content-type": "application/json" };
    const request = http.request(
      { host: "127.0.0.1", port: 8474, method: "POST", path: `/v1/targets/${target}/move`, headers },
      (answer) => {
        let text = "";
        answer.on("data", (part) => (text += part));
        answer.on("end", () => (answer.statusCode === 200 ? resolve(JSON.parse(text)) : reject(new Error(text))));
      },
    );
    request.on("error", reject);
    request.end("{}");
  });
}

async function known(client) {
  const types = [...client.topology.description.servers.values()].map((server) => server.type).sort();
  assert.deepEqual(types, ["RSPrimary", "RSSecondary", "RSSecondary"]);
}

const steps = {
  async find() {
    const client = await MongoClient.connect(SRV, options);
    try {
      const things = client.db("lab").collection("node");
      await things.insertMany(Array.from({ length: 250 }, (_, n) => ({ _id: n })));
      const found = await things.find({}, { batchSize: 100 }).toArray();
      await eventually("all nodes are known", () => known(client));
      const { type, setName } = client.topology.description;
      return { found: found.length, type, setName, nodes: nodes(client) };
    } finally {
      await client.close();
    }
  },

  async move() {
    const old = await MongoClient.connect(SRV, options);
    try {
      const moves = (client) => client.db("lab").collection("node-moves");
      await moves(old).insertOne({ _id: "before" });
      await eventually("all nodes are known", () => known(old));
      const before = nodes(old);
      const moved = await move("Cluster0/shard-00-00");
      await moves(old).insertOne({ _id: "old client" });
      const fresh = await MongoClient.connect(SRV, options);
      await moves(fresh).insertOne({ _id: "new client" });
      await eventually("all nodes are known", () => known(fresh));
      const after = nodes(fresh);
      await fresh.close();
      await eventually("the old client follows", async () => assert.deepEqual(nodes(old), after));
      await moves(old).insertOne({ _id: "followed" });
      return { moved, before, after, written: await moves(old).countDocuments() };
    } finally {
      await old.close();
    }
  },

  async optimized(string) {
    const client = await MongoClient.connect(string, options);
    try {
      const things = client.db("lab").collection("node-balanced");
      await things.insertMany(Array.from({ length: 250 }, (_, n) => ({ _id: n })));
      const found = await things.find({}, { batchSize: 50 }).toArray();
      return { found: found.length, type: client.topology.description.type };
    } finally {
      await client.close();
    }
  },
};

process.stdout.write(JSON.stringify(await steps[step](...rest)));
