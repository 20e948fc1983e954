// What the served models are and know.

import { Problem, models } from "./api.js";
import { byId, el } from "./dom.js";

const PAUSE = 5000;
/** Milliseconds until the models are asked for again while there are none. */
const PRESETS = { draft: "Draft, for a first look", guide: "As in diffusers’ guide" };

/** Show the served models, and return their names. @returns {Promise<string[]>} */
export async function showModels() {
  const { data } = await models();
  const profile = byId("profile");
  const said = data.map(({ id, about }) => [el("strong", {}, `Served model: ${id}. `), about ? `It knows: ${lower(about)}` : ""]);
  byId("model").replaceChildren(
    ...(said.length ? said.flatMap((each, index) => (index ? [el("br"), ...each] : each)) : ["No worker is ready yet. What you submit waits for one."]),
  );
  profile.replaceChildren(...data.map(({ id }) => el("option", { value: id }, id)));
  byId("profile-field").hidden = data.length < 2;
  const offer = () => {
    const model = data.find(({ id }) => id === profile.value) ?? data[0];
    byId("preset").replaceChildren(
      el("option", { value: "" }, "Standard"),
      ...(model?.presets ?? []).map((name) =>
        el("option", { value: name }, PRESETS[/** @type {keyof typeof PRESETS} */ (name)] ?? name)),
    );
  };
  profile.onchange = offer;
  offer();
  return data.map(({ id }) => id);
}

/** Wait until a model is served. @returns {Promise<void>} */
export async function modelServed() {
  for (;;) {
    await new Promise((resolve) => setTimeout(resolve, PAUSE));
    if (document.visibilityState === "hidden") continue;
    try {
      if ((await models()).data.length) return;
    } catch (error) {
      if (!(error instanceof Problem)) throw error; // the user gives no key
    }
  }
}

/** A sentence that follows a colon, unless it begins with a name. @param {string} text */
const lower = (text) => (/^[A-Z][a-z]* [a-z]/.test(text) ? text.charAt(0).toLowerCase() + text.slice(1) : text);
