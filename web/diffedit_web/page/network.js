// Whether the server can be reached, and how long to wait before it is asked again.

import { byId } from "./dom.js";

const FIRST_PAUSE = 500;
const LONGEST_PAUSE = 8000;

/** The listeners that want to know that the network is back. @type {Set<() => void>} */
const waiting = new Set();

/**
 * Wait before the next attempt, longer each time. Ends early when the browser says that the network is back.
 * @param {number} attempt how many have failed, from 0
 * @param {AbortSignal | null} [signal] ends the pause, too
 * @returns {Promise<void>}
 */
export function pause(attempt, signal) {
  const longest = Math.min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** attempt);
  return new Promise((resolve) => {
    const done = () => {
      clearTimeout(timer);
      waiting.delete(done);
      resolve();
    };
    const timer = setTimeout(done, longest * (0.75 + Math.random() / 2)); // many pages do not come back at once
    waiting.add(done);
    signal?.addEventListener("abort", done, { once: true });
  });
}

/** Say that the server cannot be reached. */
export function lost() {
  const banner = byId("network");
  banner.textContent = navigator.onLine
    ? "The server does not answer. This page tries again by itself."
    : "You are offline. This page goes on by itself when the network is back.";
  banner.hidden = false;
}

/** Say nothing any more: the server has answered. */
export function restored() {
  byId("network").hidden = true;
}

/** Call a function when the browser says that the network is back. @param {() => void} listener @param {AbortSignal} signal */
export function whenBack(listener, signal) {
  window.addEventListener("online", listener, { signal });
}

/** Ask the server whether it can be reached. @returns {Promise<boolean>} */
export async function reachable() {
  try {
    await fetch("v1/health", { cache: "no-store", signal: AbortSignal.timeout(5000) });
    return true;
  } catch {
    return false;
  }
}

window.addEventListener("online", () => {
  for (const done of [...waiting]) done();
});
// A server on this machine can be reached without a network, so the browser's word is only a reason to ask.
window.addEventListener("offline", async () => {
  if (!(await reachable())) {
    lost();
    for (let attempt = 0; !(await reachable()); attempt++) await pause(attempt);
    restored();
  }
});
