// The bundled pictures, with wishes that the bundled model can fulfil.

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
  const scenes = served.includes(MODEL) ? await (await fetch(`${FOLDER}scenes.json`)).json() : [];
  const offered = scenes.map((scene) => {
    const wish = `${scene.source_concept} → ${scene.target_concept}`;
    const pick = async () => take(await (await fetch(FOLDER + scene.picture)).blob(), scene);
    return el(
      "li",
      {},
      el(
        "button",
        { type: "button", className: "sample", onclick: pick, "aria-label": `Try it: ${scene.source_concept} becomes ${scene.target_concept}` },
        el("img", { src: FOLDER + scene.picture, alt: "", width: 96, height: 96 }),
        el("span", {}, wish),
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
