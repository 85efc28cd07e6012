// Uses a service through the field's client in JavaScript; prints what it was given, as JSON.
// node use.mjs URL KEY GATE: GATE is the name of a gate that stays closed.
import { Client } from "@langchain/langgraph-sdk";

const [apiUrl, apiKey, gate] = process.argv.slice(2);
const client = new Client({ apiUrl, apiKey, callerOptions: { maxRetries: 0 } });
const said = {};

const all = async (parts) => {
  const found = [];
  for await (const part of parts) found.push(part);
  return found;
};
const failure = async (promise) => {
  try {
    await promise;
  } catch (error) {
    return { status: error.status, message: String(error.message) };
  }
};
const thread = async () => (await client.threads.create()).thread_id;

// Threads
const made = await client.threads.create({ metadata: { from: "js" }, graphId: "pair" });
said.made = made;
said.again = await failure(client.threads.create({ threadId: made.thread_id }));
said.patched = await client.threads.update(made.thread_id, { metadata: { more: 1 } });
said.searched = (await client.threads.search({ metadata: { from: "js" } })).map((found) => found.thread_id);
said.counted = await client.threads.count({ metadata: { from: "js" } });

// Runs, waited for; states and history
said.waited = await client.runs.wait(made.thread_id, "pair", { input: { log: ["in"] } });
said.state = await client.threads.getState(made.thread_id);
said.history = (await client.threads.getHistory(made.thread_id, { limit: 3 })).map((state) => state.values.log);
said.written = await client.threads.updateState(made.thread_id, { values: { log: ["written"] }, asNode: "first" });
said.continued = await client.runs.wait(made.thread_id, "pair", { input: null });
said.copied = (await client.threads.getState((await client.threads.copy(made.thread_id)).thread_id)).values;

// Streams
let told;
said.values = await all(
  client.runs.stream(await thread(), "pair", {
    input: { log: [] },
    onRunCreated: (run) => {
      told = run;
    },
  }),
);
said.told = told;
said.messages = await all(
  client.runs.stream(await thread(), "talking", {
    input: { messages: [{ role: "user", content: "hi" }] },
    streamMode: ["messages-tuple", "updates", "custom"],
  }),
);
said.nested = await all(
  client.runs.stream(null, "nesting", { input: { log: [] }, streamMode: "updates", streamSubgraphs: true }),
);
said.failed = await all(client.runs.stream(await thread(), "failing", { input: { log: [] } }));
said.failure = await failure(client.runs.wait(await thread(), "failing", { input: { log: [] } }));
said.refused = await failure(client.runs.wait(await thread(), "pair", { input: {}, streamMode: "nothing", durability: "never" }));

// Joined, from the beginning and from the middle; of a thread and of none
const joined = await thread();
const run = await client.runs.create(joined, "pair", {
  input: { log: [] },
  streamMode: ["values", "updates"],
  streamResumable: true,
});
said.created = run;
said.joined = await client.runs.join(joined, run.run_id);
said.everything = await all(client.runs.joinStream(joined, run.run_id, { lastEventId: "-1" }));
const middle = said.everything[2].id;
said.rest = await all(client.runs.joinStream(joined, run.run_id, { lastEventId: middle }));
said.listed = (await client.runs.list(joined)).map((found) => [found.run_id, found.status]);
const alone = await client.runs.create(null, "pair", { input: { log: [] }, streamResumable: true });
said.alone = await all(client.runs.joinStream(null, alone.run_id, { lastEventId: "-1" }));

// A run that is read until its first node has run, left, and stopped
const stopped = await thread();
for await (const part of client.runs.stream(stopped, "pair", {
  input: { log: [], gate },
  streamMode: "updates",
  onDisconnect: "continue",
})) {
  if (part.event === "updates") break;
}
const [held] = await client.runs.list(stopped);
said.rejected = await failure(client.runs.create(stopped, "pair", { input: {}, multitaskStrategy: "reject" }));
await client.runs.cancel(stopped, held.run_id, true, "interrupt");
said.stopped = [held.status, (await client.runs.get(stopped, held.run_id)).status, (await client.threads.get(stopped)).status];
await client.runs.delete(stopped, held.run_id);
said.gone = await failure(client.runs.get(stopped, held.run_id));

// A question, and its answer
const asked = await thread();
said.question = await client.runs.wait(asked, "asking", { input: { log: [] } });
said.interrupted = await client.threads.get(asked);
said.answered = await client.runs.wait(asked, "asking", { command: { resume: 7 } });
said.before = await client.runs.wait(await thread(), "pair", { input: { log: [] }, interruptBefore: ["second"] });

// Assistants and the store
const [assistant] = await client.assistants.search({ graphId: "pair" });
said.assistant = assistant;
said.graph = (await client.assistants.getGraph("pair")).nodes.map((node) => node.id);
said.schemas = Object.keys(await client.assistants.getSchemas(assistant.assistant_id));
await client.store.putItem(["notes", "js"], "one", { text: "hello" });
said.item = await client.store.getItem(["notes", "js"], "one");
said.items = (await client.store.searchItems(["notes"])).items.map((item) => item.key);
said.namespaces = await client.store.listNamespaces({ prefix: ["notes"] });
await client.store.deleteItem(["notes", "js"], "one");
said.removed = await client.store.getItem(["notes", "js"], "one");

await client.threads.delete(made.thread_id);
said.deleted = await failure(client.threads.get(made.thread_id));
console.log(JSON.stringify(said));
