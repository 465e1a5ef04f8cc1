// The `openai` package against a server: prints what it made of the answers.
// Arguments: address, a key, a key with one image a day, a prompt that takes more than one round.
import OpenAI, { toFile } from "openai";

const [url, key, spent, endless] = process.argv.slice(2);
let requests = 0;
const counted = (...args) => (requests++, fetch(...args));
const open = (apiKey) => new OpenAI({ baseURL: `${url}/v1`, apiKey, fetch: counted });
const client = open(key);
const seen = { models: (await client.models.list()).data.map(({ id }) => id) };

const wanted = { model: "gems", prompt: "two green stars", size: "256x256", seed: 3 };
const drawn = await client.images.generate(wanted);
seen.image = drawn.data[0].b64_json;
seen.usage = drawn.usage;

// The built-in world draws no more than nine of a kind, so that each round leaves something to mend.
const hopeless = { ...wanted, prompt: "a dozen red circles", max_rounds: 2, stream: true, partial_images: 2 };
seen.events = [];
for await (const event of await client.images.generate(hopeless)) seen.events.push(event.type);

const image = await toFile(Buffer.from(seen.image, "base64"), "stars.png", { type: "image/png" });
seen.edited = (await client.images.edit({ model: "gems", image, prompt: "make the stars red" })).data[0].b64_json;

const messages = [{ role: "user", content: "a blue square" }];
const options = { model: "gems", messages, stream_options: { include_usage: true } };
const reply = await client.chat.completions.stream(options).finalChatCompletion();
seen.text = reply.choices[0].message.content;
seen.finish = reply.choices[0].finish_reason;
seen.tokens = reply.usage.total_tokens;
const both = await client.chat.completions.create({ model: "gems", messages, modalities: ["image", "text"] });
seen.beside = both.choices[0].message.images.map(({ image_url }) => image_url.url.slice(0, 22));

const last = { ...wanted, max_rounds: 1 };
await open(spent).images.generate(last);
seen.errors = [];
for (const [apiKey, body] of [["wrong", wanted], [key, { ...wanted, prompt: "" }], [spent, last]]) {
  const before = requests;
  try {
    await open(apiKey).images.generate(body);
  } catch (error) {
    seen.errors.push([error.constructor.name, error.status, error.code, requests - before]);
  }
}

// To leave the loop closes the connection, as the Stop of a chat program does.
const chat = { model: "gems", stream: true, messages: [{ role: "user", content: endless }] };
for await (const { choices } of await client.chat.completions.create(chat)) {
  if (choices[0].delta.content?.includes("Round 1")) break;
}
do {
  const answer = await fetch(`${url}/runs?text=${encodeURIComponent(endless)}`, { headers: { "api-key": key } });
  [seen.left] = (await answer.json()).runs;
} while (seen.left?.status !== "done");

console.log(JSON.stringify(seen));
