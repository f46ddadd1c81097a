// Counts the pixels in which two images differ, and finds the places where they are. A module worker: pixelmatch is a
// module, and takes a tenth of a second for a large screenshot.
"use strict";

const CELL = 16; // pixels: differences nearer to one another are one place
const MOST = 50; // places

onmessage = async ({ data: { pixelmatch, width, height, before, after } }) => {
  const { default: compare } = await import(pixelmatch);
  const picture = new Uint8ClampedArray(before.length);
  const mask = new Uint8ClampedArray(before.length);
  const count = compare(before, after, picture, width, height, { alpha: 0.3 });
  compare(before, after, mask, width, height, { diffMask: true });
  postMessage({ count, picture, places: placesOf(mask, width, height) }, [picture.buffer]);
};

/** Boxes [left, top, width, height] around the pixels of the mask, the largest first. */
function placesOf(mask, width, height) {
  const across = Math.ceil(width / CELL);
  const down = Math.ceil(height / CELL);
  const cells = new Map(); // the box of what differs in a cell
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const at = 4 * (y * width + x);
      if (!mask[at + 3] || mask[at + 1]) continue; // yellow: the edges of letters
      const cell = Math.floor(y / CELL) * across + Math.floor(x / CELL);
      const box = cells.get(cell);
      if (box) cells.set(cell, [Math.min(box[0], x), Math.min(box[1], y), Math.max(box[2], x), Math.max(box[3], y)]);
      else cells.set(cell, [x, y, x, y]);
    }
  }
  const boxes = [];
  for (const first of [...cells.keys()]) {
    if (!cells.has(first)) continue;
    const open = [first];
    let [left, top, right, bottom] = cells.get(first);
    while (open.length) {
      const cell = open.pop();
      const box = cells.get(cell);
      if (!box) continue;
      cells.delete(cell);
      [left, top] = [Math.min(left, box[0]), Math.min(top, box[1])];
      [right, bottom] = [Math.max(right, box[2]), Math.max(bottom, box[3])];
      const column = cell % across;
      const row = Math.floor(cell / across);
      for (let dy = -1; dy <= 1; dy++) {
        for (let dx = -1; dx <= 1; dx++) {
          const inside = column + dx >= 0 && column + dx < across && row + dy >= 0 && row + dy < down;
          if (inside) open.push((row + dy) * across + column + dx);
        }
      }
    }
    boxes.push([left, top, right - left + 1, bottom - top + 1]);
  }
  return boxes.sort((a, b) => b[2] * b[3] - a[2] * a[3]).slice(0, MOST);
}
