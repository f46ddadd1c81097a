// The images of the stage: zoom and pan that all of them share, the slider, full screen, and images that cannot be shown.
"use strict";

(() => {
  const stage = document.getElementById("stage");
  if (!stage) return;
  let actual = false; // whether images have their own size, else they fit

  const shots = () => stage.querySelector(".shots");
  const images = () => [...stage.querySelectorAll(".shot img")];
  const boxes = () => (shots()?.matches(".side:not(.over)") ? [...shots().children] : [shots()]).filter(Boolean);

  function set() {
    const place = shots();
    if (!place) return;
    if (place.matches(".slider, .difference")) place.classList.add("over");
    if (place.matches(".slider")) addSlider(place);
    for (const image of images()) {
      if (image.complete && !image.naturalWidth && image.src) broken(image);
      else image.addEventListener("load", fit, { once: true });
    }
    for (const box of boxes()) box.addEventListener("scroll", follow, { passive: true });
    const mode = stage.querySelector(".modes [aria-current]");
    if (mode) mode.closest("ul").scrollLeft = mode.offsetLeft - 40; // a narrow screen does not show all modes
    zoom(actual);
  }

  function addSlider(place) {
    const ariaLabel = "How much of the left image is shown, in percent";
    const slider = reportd.make("input", { type: "range", min: "0", max: "100", className: "divide", ariaLabel });
    const move = () => place.style.setProperty("--divide", `${slider.value}%`);
    slider.addEventListener("input", move);
    place.before(slider);
    move();
  }

  /** Images of other sizes lie over one another in one scale, from the top left corner. */
  function fit() {
    const place = shots();
    const all = images();
    if (!place || all.some((image) => !image.naturalWidth)) return;
    const sizes = all.map((image) => `${image.naturalWidth} × ${image.naturalHeight}`);
    const about = stage.querySelector(".sizes");
    if (about && sizes.length === 2 && sizes[0] !== sizes[1]) about.textContent = `Sizes differ: ${sizes.join(" and ")}.`;
    const width = Math.max(...all.map((image) => image.naturalWidth));
    const height = Math.max(...all.map((image) => image.naturalHeight));
    const over = place.matches(".over");
    const scale = Math.min(1, place.clientWidth / width, tall() ? Infinity : place.clientHeight / height);
    for (const image of [...all, ...place.querySelectorAll("canvas")]) {
      image.style.width = over && !actual ? `${(image.naturalWidth || image.width) * scale}px` : "";
    }
  }

  /** Whether the page is narrow: then nothing limits the height of an image. */
  const tall = () => matchMedia("(max-width: 61.99rem)").matches;

  function zoom(on, event) {
    const place = shots();
    if (!place) return;
    const image = event?.target.closest(".shot img");
    const box = image?.getBoundingClientRect();
    actual = on;
    place.classList.toggle("actual", on);
    const button = stage.querySelector('[data-key="z"]');
    if (button) button.textContent = on ? "Fit" : "100 %";
    fit();
    if (!on || !image) return;
    for (const each of boxes()) {
      each.scrollLeft = ((event.clientX - box.left) / box.width) * image.naturalWidth - each.clientWidth / 2;
      each.scrollTop = ((event.clientY - box.top) / box.height) * image.naturalHeight - each.clientHeight / 2;
    }
  }

  function follow(event) {
    const { scrollLeft, scrollTop } = event.target;
    for (const box of boxes()) {
      if (box !== event.target && (box.scrollLeft !== scrollLeft || box.scrollTop !== scrollTop)) {
        box.scrollTo(scrollLeft, scrollTop);
      }
    }
  }

  async function broken(image) {
    const { name, size, type, sum } = image.dataset;
    const address = image.getAttribute("src");
    const note = reportd.make("p", { className: "none" });
    const file = reportd.make("bdi", { textContent: name });
    image.closest("a").replaceWith(note);
    const local = location.protocol === "file:"; // where a page may not fetch
    const gone = !local && (await fetch(address, { method: "HEAD" }).catch(() => null))?.status === 410;
    if (gone) {
      note.append(file, `: the stored file is missing (sha256 ${sum.slice(0, 12)}…, ${size}). "reportd check" lists it.`);
      return;
    }
    const link = reportd.make("a", { href: local ? address : `${address}?download=true`, textContent: "save the file" });
    note.append("This browser cannot show ", file, ` (${type}, ${size}): `, link, ".");
  }

  stage.addEventListener("error", (event) => event.target.matches?.(".shot img") && broken(event.target), true);
  stage.addEventListener("dblclick", (event) => event.target.matches(".shot img") && zoom(!actual, event));
  stage.addEventListener("click", (event) => {
    const key = event.target.closest("button[data-key]")?.dataset.key;
    if (key === "z") zoom(!actual);
    if (key === "f") document.fullscreenElement ? document.exitFullscreen() : shots()?.requestFullscreen();
    // A click on the image would leave the page; a double click zooms. A phone that has no full screen shows the file.
    const plain = event.target.matches(".shot img") && !event.ctrlKey && !event.metaKey && !event.shiftKey;
    if (plain && (!tall() || shots().requestFullscreen)) {
      event.preventDefault();
      if (tall()) shots().requestFullscreen();
    }
  });
  addEventListener("resize", fit);
  document.addEventListener("fullscreenchange", fit);
  document.addEventListener("reportd:put", (event) => event.detail === stage && set());
  set();
})();
