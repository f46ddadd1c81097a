// Two results side by side: the keys n and N go from difference to difference. Without this, each is a new page.
"use strict";

(() => {
  const rows = [...document.querySelectorAll("[data-diff]")];
  const place = document.getElementById("place");
  const bar = document.querySelector(".moves");
  const total = place?.textContent.match(/[\d,]+(?=\D*$)/)?.[0];
  if (!bar || !total || Number(total.replace(/,/g, "")) !== rows.length) return; // some are on other pages

  const address = (name) => {
    const url = new URL(location.href);
    url.searchParams.set("diff", name);
    url.hash = "difference";
    return url.pathname + url.search + url.hash;
  };
  let at = rows.findIndex((row) => row.id === "difference");

  function draw() {
    place.textContent = `${at + 1} of ${total}`;
    for (const link of bar.querySelectorAll("a")) {
      const other = rows[at + (link.dataset.key === "n" ? 1 : -1)];
      if (other) link.href = address(other.dataset.diff);
      else link.removeAttribute("href");
      link.ariaDisabled = other ? null : "true";
    }
  }

  function go(to) {
    if (!rows[to]) return;
    const old = document.getElementById("difference");
    old?.removeAttribute("id");
    old?.removeAttribute("aria-current");
    at = to;
    rows[at].id = "difference";
    rows[at].ariaCurrent = "true";
    history.replaceState(null, "", address(rows[at].dataset.diff));
    rows[at].scrollIntoView({ block: "start" });
    rows[at].focus({ preventScroll: true });
    draw();
  }

  bar.addEventListener("click", (event) => {
    const link = event.target.closest("a[data-key]");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
    event.preventDefault();
    go(at + (link.dataset.key === "n" ? 1 : -1));
  });
  if (location.hash === "" && at > 0) rows[at].scrollIntoView({ block: "start" });
})();
