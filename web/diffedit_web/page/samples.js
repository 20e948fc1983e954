// The bundled pictures, with wishes that the bundled model can fulfil.

import { request } from "./api.js";
import { byId, el } from "./dom.js";

const FOLDER = "page/samples/";
const MODEL = "tiny";
/** The profile for which the samples were drawn. */

/** @typedef {{picture: string, source_prompt: string, target_prompt: string, source_concept: string, target_concept: string}} Sample */

/**
 * Show the samples, if a model is served that knows what they show.
 * @param {string[]} served names of models
 * @param {(file: Blob, sample: Sample) => void} take called with the one that the user picks
 */
export async function showSamples(served, take) {
  /** @type {Sample[]} */
  const scenes = served.includes(MODEL) ? await request(`${FOLDER}scenes.json`, {}, (answer) => answer.json()) : [];
  const offered = scenes.map((scene) => {
    const pick = async () => take(await request(FOLDER + scene.picture, {}, (answer) => answer.blob()), scene);
    return el(
      "li",
      {},
      el(
        "button",
        { type: "button", className: "sample", onclick: pick },
        el("img", { src: FOLDER + scene.picture, alt: "", width: 96, height: 96 }),
        el(
          "span",
          {},
          `${scene.source_concept} `,
          el("span", { "aria-hidden": "true" }, "→"),
          el("span", { className: "unseen" }, "becomes"),
          ` ${scene.target_concept}`,
        ),
      ),
    );
  });
  byId("sample-list").replaceChildren(...offered);
  byId("samples").dataset.empty = String(!offered.length);
}

/** @param {boolean} visible */
export function offerSamples(visible) {
  const section = byId("samples");
  section.hidden = !visible || section.dataset.empty !== "false";
}
