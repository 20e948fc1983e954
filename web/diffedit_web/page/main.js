// The page: it shows what its address says, a form or an edit, and joins the parts.

import { setUpDetails } from "./details.js";
import { announce, button, byId, el, sentence } from "./dom.js";
import { clearForm, fillForm, hasPicture, setUpForm, showPictureError } from "./form.js";
import { markCurrent, refreshFirstPage, refreshHistory, setUpHistory } from "./history.js";
import { choose, setUpIntake } from "./intake.js";
import { NoKey, setUpKey } from "./key.js";
import { showModels } from "./models.js";
import { setUpPainter, tools } from "./painter.js";
import { offerSamples, showSamples } from "./samples.js";
import { setUpStage } from "./stage.js";
import { rememberPicture, underResult, view } from "./viewer.js";

const EDIT = /^#edit\/([0-9a-f]{32})$/;

let showing = new AbortController();
let connected = false;
const replace = el("div", { className: "row replace" }, button("Another picture", choose, "quiet"));

/** Show the form or the details of an edit beside the picture. @param {"form" | "details"} mode */
function setMode(mode) {
  const form = mode === "form";
  byId("form").hidden = !form;
  byId("details").hidden = form;
  replace.hidden = !form;
  if (form) underResult.hidden = true;
  arrange();
}

/** Show the introduction only while there is nothing else. */
function arrange() {
  const empty = !byId("form").hidden && !hasPicture();
  document.body.classList.toggle("empty", empty);
  byId("intro").hidden = !empty;
  offerSamples(empty);
}

/** Show what the address says. */
function route() {
  showing.abort();
  showing = new AbortController();
  const id = EDIT.exec(location.hash)?.[1] ?? "";
  markCurrent(id);
  if (id) return view(id, showing.signal, setMode);
  document.title = "DiffEdit";
  clearForm();
  setMode("form");
}

/** Go to the form with a picture. @param {Blob} file @param {{source?: string | null, target?: string | null}} [texts] */
async function take(file, texts) {
  showing.abort();
  if (location.hash) history.pushState(null, "", "#");
  markCurrent("");
  document.title = "DiffEdit";
  setMode("form");
  await fillForm(file, texts);
  arrange();
  if (hasPicture() && matchMedia("(hover: hover)").matches) byId(texts ? "submit" : "source").focus({ preventScroll: true });
  window.scrollTo({ top: 0 });
}

async function connect() {
  byId("model").classList.remove("error");
  try {
    const served = await showModels();
    await showSamples(served, (file, scene) => take(file, { source: scene.source_prompt, target: scene.target_prompt }));
    arrange();
    await refreshHistory();
    connected = true;
  } catch (error) {
    const message = sentence(/** @type {Error} */ (error).message);
    const again = error instanceof NoKey ? "Enter the key" : "Try again";
    byId("model").replaceChildren(`${message} `, button(again, start, "quiet"));
    announce(message);
  }
}

function start() {
  connect();
  route();
}

setUpStage();
byId("under").append(tools, underResult, replace);
setUpDetails();
setUpPainter();
setUpHistory();
setUpKey();
setUpIntake(take, showPictureError);
setUpForm((edit, picture) => {
  rememberPicture(edit.id, picture);
  location.hash = `edit/${edit.id}`;
  refreshHistory();
});
byId("new-edit").addEventListener("click", (/** @type {Event} */ event) => {
  event.preventDefault();
  if (location.hash) location.hash = "";
  else route();
});
window.addEventListener("hashchange", route);
window.addEventListener("diffedit-form", () => {
  showing.abort();
  markCurrent("");
  document.title = "DiffEdit";
});
document.addEventListener("visibilitychange", () => connected && document.visibilityState === "visible" && refreshFirstPage());
start();
