// Where pictures come from: dropped, chosen or pasted.

import { byId, tell } from "./dom.js";

const KINDS = new Set(["image/png", "image/jpeg", "image/webp"]);
const UNKNOWN = "application/octet-stream";
const LARGEST = 32 * 2 ** 20;
/** Bytes that the server takes. */

/**
 * Call a function with each picture that the user gives, or with the reason why it is none.
 * @param {(file: Blob) => void} take
 * @param {(reason: string) => void} refuse
 */
export function setUpIntake(take, refuse) {
  const input = byId("file");
  const stage = byId("stage");
  const given = async (/** @type {FileList | null | undefined} */ files) => {
    const file = files?.[0];
    if (!file) return refuse("There is no picture in it. Drop or paste the file of a picture.");
    // Systems do not know the type of each file. Then the browser finds out when it reads the picture.
    if (file.type && file.type !== UNKNOWN && !KINDS.has(file.type)) return refuse("This is no PNG, JPEG or WebP file. Convert it to one of them.");
    if (file.size > LARGEST) return refuse("The file takes more than 32 MiB. Make the picture smaller.");
    if (!file.size) return refuse("The file is empty. Choose another one.");
    let data;
    try {
      // In memory, so that it can be sent again if the file is changed or moved meanwhile.
      data = await file.arrayBuffer();
    } catch {
      return refuse("The browser cannot read this file. Is it a folder?");
    }
    if (files.length > 1) tell("These are several files. The first one is used.");
    take(new Blob([data], { type: KINDS.has(file.type) ? file.type : "" }));
  };

  byId("choose").addEventListener("click", () => input.click());
  input.addEventListener("change", () => {
    if (input.files.length) given(input.files);
    input.value = "";
  });

  let depth = 0; // each element below reports that it is entered and left
  /** Listen to drags of files only: text can be dragged as always. @param {string} type @param {number} change */
  const onDrag = (type, change, then = (/** @type {any} */ _) => {}) => {
    window.addEventListener(type, (/** @type {any} */ event) => {
      if (!event.dataTransfer?.types.includes("Files")) return;
      event.preventDefault(); // or the browser opens the file instead of the page
      depth = Math.max(0, depth + change);
      stage.classList.toggle("over", depth > 0);
      then(event);
    });
  };
  onDrag("dragenter", 1);
  onDrag("dragleave", -1);
  onDrag("dragover", 0);
  onDrag("drop", -Infinity, (/** @type {DragEvent} */ event) => given(event.dataTransfer?.files));
  window.addEventListener("paste", (event) => {
    const files = event.clipboardData?.files;
    if (files?.length) given(files);
  });
}

/** Open the dialog in which a picture is chosen. */
export const choose = () => byId("file").click();
