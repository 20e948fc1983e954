// The mask as a drawing: where the picture may change. It knows nothing of the page.

const LONGEST_SIDE = 1024;
/** Pixels of the drawing at most. A larger picture gets the drawing enlarged. */
const UNDO_STEPS = 20;

/** A mask of one picture. */
export class Mask {
  /** @param {number} width pixels of the picture @param {number} height */
  constructor(width, height) {
    const scale = Math.min(1, LONGEST_SIDE / Math.max(width, height));
    this.pictureSize = [width, height];
    this.canvas = canvasOf(Math.max(1, Math.round(width * scale)), Math.max(1, Math.round(height * scale)));
    this.context = contextOf(this.canvas);
    this.context.lineCap = this.context.lineJoin = "round";
    /** @type {ImageData[]} */
    this.past = [];
    /** Whether a user has changed what the model found. */
    this.touched = false;
    /** The edit that has found it; "" if a user has painted it. */
    this.found = "";
  }

  /**
   * Paint or erase a line, in units of the picture's width and height.
   * @param {[number, number]} from
   * @param {[number, number]} to
   * @param {number} diameter in units of the shorter side
   * @param {boolean} erase
   */
  stroke(from, to, diameter, erase) {
    const { width, height } = this.canvas;
    const context = this.context;
    context.globalCompositeOperation = erase ? "destination-out" : "source-over";
    context.lineWidth = Math.max(1, diameter * Math.min(width, height));
    context.strokeStyle = context.fillStyle = "#fff";
    context.beginPath();
    context.moveTo(from[0] * width, from[1] * height);
    context.lineTo(to[0] * width, to[1] * height);
    context.stroke();
    context.beginPath(); // a line without a length draws nothing
    context.arc(to[0] * width, to[1] * height, context.lineWidth / 2, 0, 2 * Math.PI);
    context.fill();
    this.touched = true;
  }

  /** Remember the drawing as it is, for `undo`. */
  remember() {
    this.past.push(this.context.getImageData(0, 0, this.canvas.width, this.canvas.height));
    if (this.past.length > UNDO_STEPS) this.past.shift();
  }

  /** Take back the last change. */
  undo() {
    const before = this.past.pop();
    if (before) this.context.putImageData(before, 0, 0);
    this.touched = true;
  }

  get canUndo() {
    return this.past.length > 0;
  }

  /** Erase everything. */
  clear() {
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.touched = true;
  }

  /** Whether nothing is selected. */
  get isEmpty() {
    const { data } = this.context.getImageData(0, 0, this.canvas.width, this.canvas.height);
    for (let index = 3; index < data.length; index += 4) if (data[index] > 127) return false;
    return true;
  }

  /** Return where the middle of the selection is, in units of the picture's width; the middle if nothing is selected. */
  get middle() {
    const { width, height } = this.canvas;
    const { data } = this.context.getImageData(0, 0, width, height);
    let [sum, count] = [0, 0];
    for (let index = 3, pixel = 0; index < data.length; index += 4, pixel++) {
      if (data[index] > 127) [sum, count] = [sum + (pixel % width) + 0.5, count + 1];
    }
    return count ? sum / count / width : 0.5;
  }

  /** Draw a mask file, white where the picture may change. @param {Blob} file */
  async load(file) {
    const bitmap = await createImageBitmap(file);
    const { width, height } = this.canvas;
    this.context.globalCompositeOperation = "copy";
    this.context.drawImage(bitmap, 0, 0, width, height);
    const image = this.context.getImageData(0, 0, width, height);
    for (let index = 0; index < image.data.length; index += 4) {
      image.data[index + 3] = image.data[index];
      image.data[index] = image.data[index + 1] = image.data[index + 2] = 255;
    }
    this.context.putImageData(image, 0, 0);
    this.past = [];
    this.touched = false;
  }

  /** Return the mask as a PNG file of the picture's size. @returns {Promise<Blob>} */
  toFile() {
    const [width, height] = this.pictureSize;
    const canvas = canvasOf(width, height);
    const context = contextOf(canvas);
    context.fillStyle = "#000";
    context.fillRect(0, 0, width, height);
    context.drawImage(this.canvas, 0, 0, width, height);
    return new Promise((resolve, reject) => {
      canvas.toBlob((file) => (file ? resolve(file) : reject(new Error("the mask is too large for this browser"))), "image/png");
    });
  }

  /** Draw what of a picture lies in the mask, with a soft edge. @param {HTMLImageElement} image @param {HTMLCanvasElement} onto */
  cutOut(image, onto) {
    const context = contextOf(onto);
    const { width, height } = onto;
    context.globalCompositeOperation = "copy";
    context.filter = `blur(${Math.round(width / 90)}px)`;
    context.drawImage(this.canvas, 0, 0, width, height);
    context.filter = "none";
    context.globalCompositeOperation = "source-in";
    context.drawImage(image, 0, 0, width, height);
  }

  /** Draw the mask as stripes, which show on every picture. @param {HTMLCanvasElement} onto @param {string} colour */
  show(onto, colour) {
    const context = contextOf(onto);
    const { width, height } = onto;
    context.globalCompositeOperation = "copy";
    context.drawImage(this.canvas, 0, 0, width, height);
    context.globalCompositeOperation = "source-in";
    context.fillStyle = colour;
    context.fillRect(0, 0, width, height);
    context.globalCompositeOperation = "source-atop";
    context.strokeStyle = "#fff";
    context.lineWidth = Math.max(2, width / 250);
    const gap = Math.max(12, width / 45);
    context.beginPath();
    for (let start = -height; start < width; start += gap) {
      context.moveTo(start, height);
      context.lineTo(start + height, 0);
    }
    context.stroke();
  }
}

/** @param {number} width @param {number} height */
function canvasOf(width, height) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  return canvas;
}

/** @param {HTMLCanvasElement} canvas @returns {CanvasRenderingContext2D} */
function contextOf(canvas) {
  return /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
}
