// The `@langchain/langgraph-sdk` package against LangGraph's server: prints what it made of the answers.
// Argument: address.
import { Client } from "@langchain/langgraph-sdk";

const client = new Client({ apiUrl: process.argv[2] });
const seen = { graphs: (await client.assistants.search()).map(({ graph_id }) => graph_id) };
const { thread_id } = await client.threads.create();
const say = (content, more) => ({ input: { messages: [{ role: "user", content }], seed: 3, skills: "none" }, ...more });

seen.nodes = [];
seen.events = [];
for await (const { event, data } of client.runs.stream(
  thread_id, "gems", say("two green stars", { streamMode: ["updates", "custom"] }),
)) {
  if (event === "updates") seen.nodes.push(...Object.keys(data));
  if (event === "custom") seen.events.push(data.type);
}
const { values } = await client.threads.getState(thread_id);
seen.first = { stop: values.stop_reason, prompt: values.prompt, image: values.image_url };
const second = await client.runs.wait(thread_id, "gems", say("a red circle"));
seen.second = { stop: second.stop_reason, image: second.image_url, said: second.messages.map(({ type }) => type) };
seen.second.id = second.image;
const third = await client.runs.wait(thread_id, "gems", say("now make it blue"));
seen.third = { source: third.options.source, prompt: third.prompt };
seen.start = Buffer.from(await (await fetch(second.image_url)).arrayBuffer()).toString("latin1", 0, 4);

console.log(JSON.stringify(seen));
