// Choosing a step without loading the page again. The rows, the film and the lane of the timeline are links already:
// this fetches the panel of the step, moves what marks the chosen one, and keeps the address.
"use strict";

(() => {
  const stage = document.getElementById("stage");
  const list = document.querySelector(".steps .rows");
  if (!stage || !list) return;
  const rows = [...list.querySelectorAll("a")];
  const index = new Map(rows.map((row, at) => [stepOf(row), at]));
  const ahead = new Map(); // the panels of the steps before and after, by address
  let state = read();
  let busy = false;
  const idle = window.requestIdleCallback || ((work) => setTimeout(work, 200)); // Safari has none

  /** @param {HTMLAnchorElement} link */
  function stepOf(link) {
    return link.getAttribute("href").slice("?step=".length);
  }

  function read() {
    const query = new URLSearchParams(location.search);
    const step = stage.querySelector("[data-at]").dataset.at;
    return { step, view: query.get("view") || "", with: query.get("with") || "" };
  }

  /** The panel of a step in the page of an archive, which has no server to ask: see templates/kept.html. */
  const store = document.querySelector("template[data-step]") !== null;
  function kept({ step, view, with: beside }) {
    const find = (more) => document.querySelector(`template[data-step="${CSS.escape(step)}"]${more}`)?.content.cloneNode(true);
    const panel = find(":not([data-view])");
    const mode = `[data-view="${CSS.escape(view)}"]`;
    const pictures = view && (find(`${mode}[data-with="${CSS.escape(beside)}"]`) || find(`${mode}[data-with=""]`));
    if (pictures) panel.querySelector(".pictures").replaceChildren(pictures);
    return panel;
  }

  function panelOf(wanted) {
    const query = new URLSearchParams(Object.entries(wanted).filter(([name, value]) => name !== "step" && value));
    return `${location.pathname}/steps/${wanted.step}?${query}`;
  }

  function addressOf(wanted) {
    const query = new URLSearchParams(location.search);
    for (const [name, value] of Object.entries(wanted)) {
      if (value) query.set(name, value);
      else query.delete(name);
    }
    return `${location.pathname}?${query}`;
  }

  /** Show a step. A second call before the first has ended replaces it. */
  async function choose(wanted) {
    if (!index.has(wanted.step)) {
      location.assign(addressOf(wanted));
      return;
    }
    state = wanted;
    mark();
    if (busy) return;
    busy = true;
    try {
      for (let shown = null; shown !== state;) {
        shown = state;
        const text = store ? kept(shown) : await panel(panelOf(shown));
        if (text === null) return;
        if (shown === state) show(text);
      }
    } finally {
      busy = false;
    }
  }

  async function panel(address) {
    const early = await ahead.get(address);
    if (early) return early;
    const response = await reportd.get(address);
    return response && response.text();
  }

  function show(text) {
    const held = stage.contains(document.activeElement) ? document.activeElement : null;
    reportd.put(stage, text);
    if (held) again(held).focus({ preventScroll: true });
    history.replaceState(null, "", addressOf(state));
    const heading = stage.querySelector("h2");
    document.getElementById("said").textContent = heading.textContent;
    idle(prefetch, { timeout: 500 });
  }

  /** What has the place of a control of the former panel. */
  function again(held) {
    for (const name of ["key", "view", "part"]) {
      const value = held.closest(`[data-${name}]`)?.dataset[name];
      const found = value && stage.querySelector(`[data-${name}="${CSS.escape(value)}"]`);
      if (found) return found.matches("details") ? found.firstElementChild : found;
    }
    return stage.querySelector("h2");
  }

  function mark() {
    for (const link of document.querySelectorAll('[aria-current="step"]')) link.ariaCurrent = null;
    const row = rows[index.get(state.step)];
    row.ariaCurrent = "step";
    document.querySelector(`.film a[href="?step=${state.step}"]`)?.setAttribute("aria-current", "step");
    if (list.contains(document.activeElement)) row.focus({ preventScroll: true });
    rove(row);
    center(row, false);
    document.dispatchEvent(new CustomEvent("reportd:step", { detail: index.get(state.step) }));
  }

  let stop = null; // the one row that the Tab key reaches
  function rove(row) {
    if (stop) stop.tabIndex = -1;
    row.tabIndex = 0;
    stop = row;
  }

  /** Scroll the list, never the page. */
  function center(row, always) {
    const box = list.getBoundingClientRect();
    const fold = row.closest("details");
    if (fold) fold.open = true;
    const at = row.getBoundingClientRect();
    if (list.scrollHeight <= list.clientHeight) return;
    if (always || at.top < box.top + 60 || at.bottom > box.bottom - 60) {
      list.scrollTop += at.top - box.top - (box.height - at.height) / 2;
    }
  }

  /** Fetch the panels and images of the steps before and after, and no others. */
  function prefetch() {
    if (store) return;
    const at = index.get(state.step);
    const near = [at + 1, at - 1].filter((each) => rows[each]);
    const wanted = near.map((each) => panelOf({ ...state, step: stepOf(rows[each]) }));
    for (const known of ahead.keys()) if (!wanted.includes(known)) ahead.delete(known);
    for (const address of wanted) if (!ahead.has(address)) ahead.set(address, early(address));
  }

  async function early(address) {
    try {
      const response = await fetch(address, { headers: { "X-Fragment": "1" }, priority: "low" });
      if (!response.ok || response.redirected) return null;
      const text = await response.text();
      for (const [, image] of text.matchAll(/<img class="shown" src="([^"]+)"/g)) new Image().src = image;
      return text;
    } catch {
      return null;
    }
  }

  document.addEventListener("click", (event) => {
    const link = event.target.closest?.("a[data-step], a[data-view], .rows a, .film a");
    if (!link || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    if (store && link.dataset.step && !index.has(link.dataset.step)) return; // it is on another page
    event.preventDefault();
    if (link.dataset.view) choose({ ...state, view: link.dataset.view, with: link.dataset.with || "" });
    else choose({ ...state, step: link.dataset.step || stepOf(link) });
  });

  list.addEventListener("keydown", (event) => {
    const at = index.get(state.step);
    const to = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1 }[event.key];
    if (to === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    if (rows[to]) choose({ ...state, step: stepOf(rows[to]) });
  });

  const filter = document.getElementById("filter");
  filter.addEventListener("input", () => {
    const wanted = filter.value.trim().toLowerCase();
    for (const row of rows) row.parentElement.hidden = !row.textContent.toLowerCase().includes(wanted);
  });

  for (const row of rows) row.tabIndex = -1;
  const first = rows[index.get(state.step)];
  if (first) {
    rove(first);
    center(first, true);
  }
  idle(prefetch, { timeout: 2000 });
  const asked = new URLSearchParams(location.search).get("step") ?? state.step;
  if (store && index.has(asked) && location.search) choose({ ...state, step: asked });
  for (const late of document.querySelectorAll("[data-late]")) {
    reportd.get(late.dataset.late).then(async (response) => response && reportd.put(late, await response.text()));
  }
  reportd.move = (by) => {
    const row = rows[index.get(state.step) + by];
    if (row) choose({ ...state, step: stepOf(row) });
    else stage.querySelector(`[data-key="${by > 0 ? "j" : "k"}"]`)?.click();
  };
  reportd.choose = (at) => rows[at] && choose({ ...state, step: stepOf(rows[at]) });
})();
