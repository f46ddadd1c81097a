// The counted difference of two images. The style sheet shows a difference at once; this replaces it by an exact one,
// says how much differs, and leads from place to place.
"use strict";

(() => {
  const stage = document.getElementById("stage");
  if (!stage?.dataset.worker || location.protocol === "file:") return; // from a disk, no worker may start
  const MOST = 20e6; // pixels
  let worker = null;

  async function start() {
    worker?.terminate();
    worker = null;
    const shots = stage.querySelector(".shots.difference");
    const images = [...(shots?.querySelectorAll(".shot img") || [])];
    const about = stage.querySelector(".counted");
    if (images.length !== 2 || !about || about.dataset.same) return;
    try {
      await Promise.all(images.map((image) => image.decode()));
    } catch {
      return; // stage.js says what cannot be shown
    }
    if (!shots.isConnected) return;
    const width = Math.max(...images.map((image) => image.naturalWidth));
    const height = Math.max(...images.map((image) => image.naturalHeight));
    if (width * height > MOST) {
      about.textContent = "The images are too large to be counted.";
      return;
    }
    about.textContent = "Counting …";
    const [before, after] = images.map((image) => pixels(image, width, height));
    worker = new Worker(reportd.url(stage.dataset.worker), { type: "module" });
    worker.onerror = () => (about.textContent = "The difference could not be counted.");
    worker.onmessage = ({ data }) => {
      worker.terminate();
      worker = null;
      if (shots.isConnected) show(shots, about, data, width, height);
    };
    const pixelmatch = new URL(stage.dataset.pixelmatch, location.href).href;
    worker.postMessage({ pixelmatch, width, height, before, after }, [before.buffer, after.buffer]);
  }

  /** The smaller image is padded, never scaled. */
  function pixels(image, width, height) {
    const canvas = reportd.make("canvas", { width, height });
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, width, height).data;
  }

  function show(shots, about, { count, picture, places }, width, height) {
    const share = (100 * count) / (width * height);
    const percent = count && share < 0.01 ? "less than 0.01" : share.toFixed(share < 1 ? 2 : 1);
    const where = places.length > 1 ? `in ${places.length === 50 ? "at least 50" : places.length} places` : "in one place";
    about.textContent = count ? `${percent} % of the pixels differ, ${where}.` : "No pixel differs visibly.";
    const canvas = reportd.make("canvas", { width, height, role: "img", ariaLabel: about.textContent });
    let current = -1;
    const draw = () => {
      const context = canvas.getContext("2d");
      context.putImageData(new ImageData(picture, width, height), 0, 0);
      places.forEach(([left, top, wide, high], at) => {
        context.lineWidth = (at === current ? 3 : 1.5) * Math.max(1, width / 800);
        context.strokeStyle = at === current ? "#0b57d0" : "#8a5a00";
        context.strokeRect(left - 8, top - 8, wide + 16, high + 16);
      });
    };
    draw();
    const figure = reportd.make("figure", { className: "shot counted-shot" });
    figure.append(canvas);
    shots.append(figure);
    shots.classList.add("exact");
    if (places.length > 1) lead(about, (by) => {
      current = (current + by + places.length + (current < 0 && by < 0 ? 1 : 0)) % places.length;
      draw();
      const [left, top] = places[current];
      if (shots.matches(".actual")) shots.scrollTo(left - shots.clientWidth / 2, top - shots.clientHeight / 2);
    });
    dispatchEvent(new Event("resize")); // stage.js gives the canvas the size of the images
  }

  /** Buttons that lead to the previous and the next place. */
  function lead(about, go) {
    for (const [key, sign, label, by] of [[",", "‹", "Previous place", -1], [".", "›", "Next place", 1]]) {
      const says = { textContent: sign, title: `${label} (${key})`, ariaLabel: label };
      const button = reportd.make("button", { type: "button", className: "arrow", ...says });
      button.dataset.key = key;
      button.addEventListener("click", () => go(by));
      about.append(" ", button);
    }
  }

  document.addEventListener("reportd:put", (event) => event.detail === stage && start());
  start();
})();
