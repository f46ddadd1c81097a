// Single keys. Each has a visible control, too; the page /help draws this table, and switches the keys off.
"use strict";

(() => {
  const click = (selector) => () => document.querySelector(selector)?.click();
  const named = (key) => click(`[data-key="${key}"]`);
  /** The neighbour of the current tab, from the last one to the first. */
  const turn = (tabs, by) => () => {
    const links = [...document.querySelectorAll(`${tabs} a`)];
    const at = links.findIndex((link) => link.hasAttribute("aria-current"));
    if (at >= 0 && links.length > 1) links[(at + by + links.length) % links.length].click();
  };
  const fold = (part) => () => {
    const details = document.querySelector(`details[data-part="${part}"]`);
    if (!details) return;
    details.open = !details.open;
    if (details.open) details.scrollIntoView({ block: "nearest" });
  };
  async function copy() {
    try {
      await navigator.clipboard.writeText(location.href);
      reportd.notice("The address of this step has been copied.");
    } catch {
      reportd.notice("The browser does not allow copying here. The address is in its address bar.");
    }
    setTimeout(() => reportd.notice(""), 4000);
  }

  /** @type {[string, string, () => void][]} */
  const KEYS = [
    ["j", "next step", () => reportd.move?.(1)],
    ["k", "previous step", () => reportd.move?.(-1)],
    ["n", "next failed step", named("n")],
    ["N", "previous failed step", named("N")],
    ["]", "next failed test of the run", named("]")],
    ["[", "previous failed test of the run", named("[")],
    ["i", "next iteration", turn(".iterations", 1)],
    ["I", "previous iteration", turn(".iterations", -1)],
    ["a", "next attempt", turn(".attempts", 1)],
    ["1 … 9", "image mode", () => {}],
    ["z", "images in their own size, or fitted", named("z")],
    ["f", "images on the full screen", named("f")],
    [".", "next place of the difference", named(".")],
    [",", "previous place of the difference", named(",")],
    ["g", "compare with the last green", named("g")],
    ["c", "console of the step", fold("console")],
    ["w", "network of the step", fold("network")],
    ["t", "stack trace", fold("trace")],
    ["/", "filter the steps, or search", () => (document.getElementById("filter") ?? document.querySelector("[name=q]"))?.focus()],
    ["y", "copy the address of this step", copy],
    ["?", "this help", click('[href="/help"]')],
    ["Esc", "close, or clear the window of time", () => {}],
  ];
  const actions = new Map(KEYS.map(([key, , action]) => [key, action]));
  const off = () => localStorage.getItem("reportd.keys") === "off";

  function escape() {
    const field = document.activeElement;
    if (field?.matches("input")) {
      field.value = "";
      field.dispatchEvent(new Event("input", { bubbles: true }));
      field.blur();
    } else document.querySelector("a[data-clear]")?.click();
  }

  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || event.defaultPrevented) return;
    if (event.key === "Escape" && !document.fullscreenElement) return escape();
    const typing = event.target.closest?.("input:not([type=checkbox], [type=range]), textarea, select, [contenteditable]");
    if (typing || off()) return;
    const mode = /^[1-9]$/.test(event.key) && document.querySelectorAll(".modes a")[Number(event.key) - 1];
    const action = mode ? () => mode.click() : actions.get(event.key);
    if (!action) return;
    event.preventDefault();
    action();
  });

  const help = document.getElementById("keys");
  if (help) {
    const table = reportd.make("dl");
    for (const [key, meaning] of KEYS) {
      const name = reportd.make("dt");
      name.append(reportd.make("kbd", { textContent: key }));
      table.append(name, reportd.make("dd", { textContent: meaning }));
    }
    const label = reportd.make("label");
    const box = reportd.make("input", { type: "checkbox", checked: !off() });
    box.addEventListener("change", () => localStorage.setItem("reportd.keys", box.checked ? "on" : "off"));
    label.append(box, " Single keys are on, in this browser");
    help.replaceChildren(label, table);
  }
})();
