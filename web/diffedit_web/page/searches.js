// The edits that this tab has submitted only to look at a mask. No list shows them, so the page deletes them itself.

import * as api from "./api.js";

const NAME = "diffedit-masks";

/** @returns {string[]} */
const noted = () => JSON.parse(sessionStorage.getItem(NAME) ?? "[]");

/** @param {string[]} ids */
const note = (ids) => (ids.length ? sessionStorage.setItem(NAME, JSON.stringify(ids)) : sessionStorage.removeItem(NAME));

/** Remember a search for a mask. @param {string} id */
export const noteSearch = (id) => note([...noted(), id]);

/** Whether an edit is such a search of this tab. @param {string} id */
export const isSearch = (id) => noted().includes(id);

/** Delete the searches with their pictures, but for some. An edit that was submitted with such a mask has it as its own. @param {...string} kept */
export async function dropSearches(...kept) {
  for (const id of noted()) {
    if (kept.includes(id)) continue;
    try {
      await api.remove(id);
      note(noted().filter((each) => each !== id));
    } catch {
      // It stays noted, for the next time.
    }
  }
}
