// The `ai` package with `@ai-sdk/openai-compatible` against a server: prints what it made of the answers.
// Arguments: address, a key that may have fewer runs at a time than are asked for here.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateImage, generateText, streamText } from "ai";

const [url, apiKey] = process.argv.slice(2);
const gems = createOpenAICompatible({ name: "gems", baseURL: `${url}/v1`, apiKey, includeUsage: true });
const model = gems("gems");
const paint = { model: gems.imageModel("gems"), size: "256x256", maxRetries: 0 };
const seen = { warnings: [] };
globalThis.AI_SDK_LOG_WARNINGS = ({ warnings }) => seen.warnings.push(...warnings);

const { images } = await generateImage({ ...paint, prompt: "two green stars", n: 2, providerOptions: { gems: { seed: 3 } } });
seen.images = images.map(({ mediaType, base64 }) => [mediaType, base64]);
const edit = await generateImage({ ...paint, prompt: { images: [images[0].uint8Array], text: "make the stars red" } });
seen.edited = edit.image.base64;

const streamed = streamText({ model, prompt: "a blue square", maxRetries: 0 });
seen.text = "";
for await (const part of streamed.textStream) seen.text += part;
seen.finish = await streamed.finishReason;
seen.tokens = (await streamed.usage).totalTokens;

const content = [{ type: "text", text: "make the stars red" }, { type: "image", image: images[0].uint8Array }];
seen.changed = (await generateText({ model, messages: [{ role: "user", content }], maxRetries: 0 })).text;

const six = Array.from({ length: 6 }, (_, n) => generateText({ model, prompt: `${n + 1} red circles`, maxRetries: 0 }));
seen.atOnce = (await Promise.all(six)).map(({ text }) => text);

console.log(JSON.stringify(seen));
