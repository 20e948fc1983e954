// Edit a picture over the HTTP API, with Node 20 or newer and nothing else.
//
//   export DIFFEDIT_KEY=$(diffedit keys add me)
//   diffedit serve &
//   node examples/http_api.mjs bowl.png "a bowl of fruits" "a bowl of pears" edited.png
//
// It follows the edit's events. If the connection breaks, it connects again and goes on where it was.

import { readFile, writeFile } from "node:fs/promises";

const [picture, source, target, out = "edited.png"] = process.argv.slice(2);
const server = process.env.DIFFEDIT_SERVER ?? "http://127.0.0.1:8000";
const headers = { Authorization: `Bearer ${process.env.DIFFEDIT_KEY}` };

async function request(path, options = {}) {
  const response = await fetch(new URL(path, server), { ...options, headers: { ...headers, ...options.headers } });
  if (response.ok) return response;
  const problem = await response.json();
  throw new Error(`${problem.code}: ${problem.detail}`);
}

async function submit() {
  const form = new FormData();
  form.set("image", new Blob([await readFile(picture)]), "picture");
  form.set("source_prompt", source);
  form.set("target_prompt", target);
  // A repeated request with the same key starts no second edit.
  const options = { method: "POST", body: form, headers: { "Idempotency-Key": crypto.randomUUID() } };
  return (await request("/v1/edits", options)).json();
}

async function* changes(edit) {
  let last = "";
  while (true) {
    const response = await request(edit.links.events, { headers: { "Last-Event-ID": last } });
    if (response.status === 204) return;
    let text = "";
    for await (const part of response.body.pipeThrough(new TextDecoderStream())) {
      text += part;
      const blocks = text.split("\n\n");
      text = blocks.pop();
      for (const block of blocks) {
        const field = (name) => block.split("\n").find((line) => line.startsWith(`${name}: `))?.slice(name.length + 2);
        if (field("event") !== "status") continue;
        last = field("id");
        yield JSON.parse(field("data"));
      }
    }
  }
}

let edit = await submit();
for await (edit of changes(edit)) {
  console.log(`${edit.state} ${edit.stage ?? ""} ${Math.round(100 * edit.progress)} %`);
}
if (edit.state !== "succeeded") throw new Error(edit.error ? `${edit.error.code}: ${edit.error.detail}` : edit.state);
const result = await request(`${edit.links.result}?inline`);
await writeFile(out, Buffer.from(await result.arrayBuffer()));
console.log(out);
