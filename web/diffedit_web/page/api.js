// Requests to the HTTP API. Each goes on until the server has answered: a lost network only delays it.

import { askForKey, storedKey } from "./key.js";
import * as network from "./network.js";

const CUT_OFF = 3;
/** How often a body may be cut off by a server that answers otherwise. */

/** An answer that says what went wrong (RFC 9457). */
export class Problem extends Error {
  /** @param {{status?: number, code?: string, detail?: string, retryable?: boolean}} problem */
  constructor({ status = 0, code = "error", detail = "the server gave no reason", retryable = false }) {
    super(detail);
    this.status = status;
    this.code = code;
    this.retryable = retryable;
  }
}

/**
 * @typedef {object} Edit an edit as `GET /v1/edits/{id}` shows it
 * @property {string} id
 * @property {string} state
 * @property {"result" | "mask"} goal
 * @property {string[]} stages
 * @property {string | null} stage
 * @property {number} step
 * @property {number} steps
 * @property {number} progress
 * @property {number | null} position
 * @property {number | null} eta
 * @property {Record<string, number>} timings
 * @property {{code: string, detail: string} | null} error
 * @property {Record<string, string | null>} texts
 * @property {Record<string, any>} params
 * @property {string} created_at
 * @property {string | null} started_at
 * @property {string | null} finished_at
 */

/**
 * Send a request and return what `read` makes of the answer.
 * @template T
 * @param {string} path relative to the page, so that it works below any path of a proxy
 * @param {RequestInit} options
 * @param {(response: Response) => Promise<T> | T} read
 * @returns {Promise<T>}
 * @throws {Problem | import("./key.js").NoKey}
 */
export async function request(path, options, read) {
  let cutOff = 0;
  for (let attempt = 0; ; attempt++) {
    const key = storedKey();
    const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
    let response;
    try {
      response = await fetch(path, { ...options, headers });
      if (response.ok) {
        const answer = await read(response);
        network.restored();
        return answer;
      }
    } catch (error) {
      if (options.signal?.aborted) throw error;
      if (options.body && (await network.reachable())) {
        // The server answers, but closes the connection while the picture is sent.
        if (++cutOff === CUT_OFF) throw new Problem({ detail: "the server did not take the whole picture; try a smaller one" });
      } else network.lost();
      await network.pause(attempt, options.signal);
      options.signal?.throwIfAborted();
      continue;
    }
    network.restored();
    if (response.status !== 401) throw new Problem(await problemIn(response));
    await askForKey(key);
  }
}

/** @param {Response} response */
async function problemIn(response) {
  try {
    return await response.json();
  } catch {
    return { status: response.status, detail: `the server answered with status ${response.status}` };
  }
}

/** @param {Response} response */
const asJson = (response) => response.json();

/** Return a key with which a request can be repeated without a second edit. `crypto.randomUUID` is missing without HTTPS. */
export function randomKey() {
  return [...crypto.getRandomValues(new Uint8Array(16))].map((byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** @returns {Promise<{data: {id: string, about: string, presets: string[]}[]}>} */
export const models = () => request("v1/models", {}, asJson);

/**
 * Submit an edit, or the search for a mask.
 * @param {"edits" | "masks"} route
 * @param {FormData} body
 * @returns {Promise<Edit>}
 */
export const submit = (route, body) =>
  request(`v1/${route}`, { method: "POST", body, headers: { "Idempotency-Key": randomKey() } }, asJson);

/** @param {string} id @returns {Promise<Edit>} */
export const show = (id) => request(`v1/edits/${id}`, { cache: "no-store" }, asJson);

/** @param {string | null} cursor @returns {Promise<{data: Edit[], next_cursor: string | null}>} */
export const list = (cursor) =>
  request(`v1/edits?limit=24${cursor ? `&cursor=${encodeURIComponent(cursor)}` : ""}`, { cache: "no-store" }, asJson);

/** @param {string} id @returns {Promise<Edit>} */
export const cancel = (id) => request(`v1/edits/${id}/cancel`, { method: "POST" }, asJson);

/** @param {string} id @returns {Promise<Edit>} */
export const retry = (id) =>
  request(`v1/edits/${id}/retry`, { method: "POST", headers: { "Idempotency-Key": randomKey() } }, asJson);

/** Delete an edit; one that is gone already counts as deleted. @param {string} id */
export async function remove(id) {
  try {
    await request(`v1/edits/${id}`, { method: "DELETE" }, () => null);
  } catch (error) {
    if (!(error instanceof Problem) || error.code !== "job_not_found") throw error;
  }
}

/**
 * Read a picture of an edit, with the key: an <img> could not send it.
 * @param {string} id
 * @param {"result" | "mask" | "original" | "thumbnail"} slot
 * @returns {Promise<Blob>}
 */
export const picture = (id, slot) => request(`v1/edits/${id}/${slot}?inline=1`, {}, (response) => response.blob());
