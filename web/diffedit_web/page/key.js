// The API key: asked for when the server wants one, kept in this tab only.

import { byId, showError } from "./dom.js";

const NAME = "diffedit-key";

/** The question that is open, so that many refused requests ask once. @type {Promise<void> | null} */
let asking = null;

/** Raised when the user gives no key. */
export class NoKey extends Error {}

/** Return the key, or null. @returns {string | null} */
export const storedKey = () => sessionStorage.getItem(NAME);

/**
 * Ask for a key, after one or none was refused. Resolves when there is another one.
 * @param {string | null} refused the key that was refused
 * @returns {Promise<void>}
 */
export function askForKey(refused) {
  if (storedKey() !== refused) return Promise.resolve(); // another request has asked in the meantime
  asking ??= ask(refused).finally(() => (asking = null));
  return asking;
}

/** Forget the key, and show the button that does it only while there is one. */
export function setUpKey() {
  const forget = byId("forget-key");
  forget.hidden = !storedKey();
  forget.addEventListener("click", () => {
    sessionStorage.removeItem(NAME);
    location.hash = "";
    location.reload();
  });
}

/** @param {string | null} refused */
function ask(refused) {
  const dialog = byId("key-dialog");
  const input = byId("key");
  input.value = "";
  showError("key-error", refused ? "The server refused this key. It may be misspelt, or revoked." : null);
  return new Promise((resolve, reject) => {
    const ended = new AbortController();
    const end = (/** @type {boolean} */ given) => {
      ended.abort();
      dialog.close();
      byId("forget-key").hidden = !storedKey();
      if (given) resolve();
      else reject(new NoKey("This server needs an API key."));
    };
    byId("key-form").addEventListener(
      "submit",
      (event) => {
        event.preventDefault();
        const key = input.value.trim();
        // What a header cannot hold is no key.
        if (!/^[\x21-\x7e]+$/.test(key)) return showError("key-error", "Give the key as it was printed, without spaces.");
        sessionStorage.setItem(NAME, key);
        end(true);
      },
      { signal: ended.signal },
    );
    byId("key-cancel").addEventListener("click", () => end(false), { signal: ended.signal });
    dialog.addEventListener(
      "cancel",
      (event) => {
        event.preventDefault();
        end(false);
      },
      { signal: ended.signal },
    );
    dialog.showModal();
    input.focus();
  });
}
