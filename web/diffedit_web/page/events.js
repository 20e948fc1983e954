// Follow an edit by server-sent events. EventSource cannot send a key, so this reads the stream itself.

import { Problem, request } from "./api.js";
import { pause, whenBack } from "./network.js";

const SILENCE = 40_000;
/** Milliseconds after which a stream without a byte counts as lost. The server sends a comment every 15 seconds. */

export const TERMINAL = new Set(["succeeded", "failed", "cancelled", "expired"]);

/**
 * Call a function at every change of an edit until it has ended. Connects again if the stream breaks.
 * @param {string} id
 * @param {{signal: AbortSignal, onStatus: (edit: import("./api.js").Edit) => void, onPreview: (uri: string) => void}} options
 * @returns {Promise<void>}
 * @throws {Problem} the edit cannot be followed any more
 */
export async function follow(id, { signal, onStatus, onPreview }) {
  let last = "";
  for (let attempt = 0; !signal.aborted; attempt++) {
    const connection = new AbortController();
    const end = () => connection.abort();
    signal.addEventListener("abort", end, { signal: connection.signal });
    whenBack(end, connection.signal); // what is open now may be dead without knowing it
    try {
      const headers = { Accept: "text/event-stream", ...(last ? { "Last-Event-ID": last } : {}) };
      const options = { headers, signal: connection.signal, cache: /** @type {const} */ ("no-store") };
      const response = await request(`v1/edits/${id}/events?preview=true`, options, (answer) => answer);
      if (response.status === 204 || !response.body) return;
      for await (const event of messages(response.body, end)) {
        attempt = 0;
        if (signal.aborted) return;
        if (event.type === "preview") onPreview(event.data);
        if (event.type === "problem") throw new Problem(JSON.parse(event.data));
        if (event.type !== "status") continue;
        last = event.id;
        const edit = JSON.parse(event.data);
        onStatus(edit);
        if (TERMINAL.has(edit.state)) return;
      }
    } catch (error) {
      if (signal.aborted) return;
      const broken = error instanceof TypeError || (error instanceof DOMException && error.name === "AbortError");
      if (!broken && !(error instanceof Problem && error.retryable)) throw error;
    } finally {
      end();
    }
    await pause(attempt, signal);
  }
}

/**
 * Yield the events of a stream.
 * @param {ReadableStream<Uint8Array>} body
 * @param {() => void} onSilence called when nothing has come for too long
 */
async function* messages(body, onSilence) {
  let timer = setTimeout(onSilence, SILENCE);
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let text = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return;
      clearTimeout(timer);
      timer = setTimeout(onSilence, SILENCE);
      text += value.replaceAll("\r", "");
      const blocks = text.split("\n\n");
      text = blocks.pop() ?? "";
      for (const block of blocks) yield parsed(block);
    }
  } finally {
    clearTimeout(timer);
    reader.cancel().catch(() => {});
  }
}

/** Return an event of its lines. @param {string} block */
function parsed(block) {
  const event = { type: "message", data: "", id: "" };
  for (const line of block.split("\n")) {
    const [, name, value] = /^([^:]*):? ?(.*)$/.exec(line) ?? [];
    if (name === "event") event.type = value;
    if (name === "data") event.data += (event.data ? "\n" : "") + value;
    if (name === "id") event.id = value;
  }
  return event;
}
