// The lane of the steps in the timeline: a slider over the steps, and a window of time that filters the logs.
"use strict";

(() => {
  const timeline = document.getElementById("timeline");
  const rows = [...document.querySelectorAll(".steps .rows a")];
  if (!timeline || !rows.length) return;
  const lane = document.getElementById("lane");
  const columns = []; // [first column, row], in the order of the axis
  let column = 0;
  timeline.dataset.starts.split(" ").forEach((distance, row) => {
    if (distance) columns.push([(column += Number(distance)), row]);
  });
  const tip = reportd.make("output", { className: "tip", hidden: true });
  lane.append(tip);

  const columnAt = (x) => {
    const box = lane.getBoundingClientRect();
    return Math.max(0, Math.min(999, ((x - box.left) / box.width) * 1000));
  };
  const placeAt = (x) => {
    const at = columnAt(x);
    let low = 0;
    for (let high = columns.length; high - low > 1;) {
      const middle = (low + high) >> 1;
      if (columns[middle][0] <= at) low = middle;
      else high = middle;
    }
    return low;
  };
  const textOf = (row) => rows[row].innerText.replace(/\s+/g, " ");

  function show(row) {
    const place = columns.findIndex((each) => each[1] === row);
    lane.ariaValueNow = row + 1;
    lane.ariaValueText = `step ${textOf(row)}, ${rows[row].querySelector("[role=img]").ariaLabel}`;
    const here = lane.querySelector(".here");
    if (!here) return;
    here.setAttribute("visibility", place < 0 ? "hidden" : "visible");
    if (place < 0) return;
    const end = place + 1 < columns.length ? columns[place + 1][0] : 1000;
    here.setAttribute("x", columns[place][0]);
    here.setAttribute("width", Math.max(3, end - columns[place][0]));
  }

  const slider = { role: "slider", tabIndex: 0, ariaLabel: "Step in the timeline", ariaValueMin: 1 };
  Object.assign(lane, slider, { ariaValueMax: rows.length });
  lane.querySelector("svg").ariaHidden = "true";
  show(rows.findIndex((row) => row.ariaCurrent === "step"));
  document.addEventListener("reportd:step", (event) => show(event.detail));

  let pressed = null;
  lane.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    pressed = event.clientX;
    lane.setPointerCapture(event.pointerId);
  });
  lane.addEventListener("pointermove", (event) => {
    const row = columns[placeAt(event.clientX)][1];
    const dragged = pressed !== null && Math.abs(event.clientX - pressed) > 5;
    tip.textContent = dragged ? span(event.clientX).map((ms) => (ms / 1000).toFixed(1)).join(" to ") + " s" : textOf(row);
    tip.hidden = false;
    tip.style.setProperty("--x", `${columnAt(event.clientX) / 10}%`);
  });
  lane.addEventListener("pointerleave", () => (tip.hidden = true));
  lane.addEventListener("pointercancel", () => (pressed = null));
  lane.addEventListener("pointerup", (event) => {
    if (pressed === null) return;
    if (Math.abs(event.clientX - pressed) > 5) choose(span(event.clientX));
    else reportd.choose(columns[placeAt(event.clientX)][1]);
    pressed = null;
  });
  lane.addEventListener("keydown", (event) => {
    const now = lane.ariaValueNow - 1;
    const steps = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10, Home: -now };
    const by = event.key === "End" ? rows.length - 1 - now : steps[event.key];
    if (by === undefined || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    reportd.choose(Math.max(0, Math.min(rows.length - 1, now + by)));
  });

  /** The window between where the pointer was pressed and `x`, in milliseconds. */
  function span(x) {
    const length = Number(timeline.dataset.length);
    return [pressed, x].map((each) => Math.round((columnAt(each) * length) / 1000)).sort((a, b) => a - b);
  }

  function choose([from, to]) {
    const query = new URLSearchParams(location.search);
    for (const [name, value] of Object.entries({ log: "all", from, to })) query.set(name, String(value));
    location.assign(`?${query}#logs`);
  }
})();
