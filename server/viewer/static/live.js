// While something runs: fetches what has changed and replaces it, without moving the focus or what is in view.
"use strict";

(() => {
  const heard = document.getElementById("heard");
  const refresh = document.getElementById("refresh");
  if (!heard) return;
  const PAUSES = [3, 5, 10, 15]; // seconds; the longer ones when nothing changes
  let tag = "", words = "", same = 0, said = 0, changed = Date.now(), late = false;

  /** Replace the parts that differ. Whether more may come. */
  function show(text) {
    const box = document.createElement("template");
    reportd.put(box, text);
    for (const { id, innerHTML } of box.content.children) {
      const place = document.getElementById(id);
      if (!place || place === heard || place.innerHTML === innerHTML) continue;
      const link = place.contains(document.activeElement) && document.activeElement.getAttribute("href");
      reportd.put(place, innerHTML);
      if (link) place.querySelector(`[href="${CSS.escape(link)}"]`)?.focus({ preventScroll: true });
    }
    const { textContent, dataset } = box.content.getElementById("heard");
    words = textContent;
    if (dataset.title) document.title = dataset.title + " · reportd";
    if (dataset.over === "reload") location.reload();
    return !("over" in dataset);
  }

  function end(reason) {
    refresh.hidden = false;
    reportd.notice(reason);
  }

  async function look() {
    late = document.hidden;
    if (late) return;
    const headers = { "X-Fragment": "1", "If-None-Match": tag };
    const response = await fetch(heard.dataset.live, { cache: "no-store", headers }).catch(() => ({}));
    if (response.redirected) return end("Your session has ended. Reload the page to sign in.");
    if (response.status === 404) return end("This is gone: it has been deleted meanwhile.");
    const text = response.ok && (await response.text().catch(() => "")); // the connection may end within it
    let more = true;
    same += 1;
    if (text) {
      more = show(text);
      tag = response.headers.get("ETag");
      same = 0;
      changed = Date.now();
    }
    // A screen reader says it: not at every change.
    if (heard.textContent !== words && Date.now() - said >= 15000) {
      heard.textContent = words;
      said = Date.now();
    }
    if (!more || Date.now() - changed > 3600000) return end("");
    setTimeout(look, 1000 * PAUSES[Math.min(same, 3)]);
  }

  document.addEventListener("visibilitychange", () => late && look());
  refresh.hidden = true;
  document.getElementById("waiting")?.append("Waiting for the first run…");
  setTimeout(look, 3000);
})();
