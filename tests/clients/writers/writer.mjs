// One of the five writers of `failover.py`, with the Node driver; see writer.py for what it prints.
//
// node writer.mjs MODULES URI CA COLLECTION

import { createRequire } from "node:module";

const [modules, uri, tlsCAFile, collection] = process.argv.slice(2);
const { MongoClient } = createRequire(`${modules}/`)("mongodb");

const say = (...words) => console.log(words.map((word) => String(word).replaceAll("\n", " ")).join("\t"));
const client = new MongoClient(uri, { tlsCAFile });
const things = client.db("lab").collection(collection);
const writes = [];

async function write(number) {
  say("start", number);
  try {
    await things.insertOne({ _id: number });
    say("ok", number);
  } catch (error) {
    say("error", number, error.name, error.code ?? "", (error.errorLabels ?? []).join(","), error.message);
  }
}

const timer = setInterval(() => writes.push(write(writes.length)), 200);
process.stdin.on("end", async () => {
  clearInterval(timer);
  await Promise.all(writes);
  await client.close();
});
process.stdin.resume();
