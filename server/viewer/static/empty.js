// The page of an empty server: looks for the first run every 3 s and then shows it.
"use strict";

(() => {
  const waiting = document.getElementById("waiting");
  const until = Date.now() + 3600000; // a forgotten tab stops asking
  waiting.textContent = "Waiting for the first run…";

  async function look() {
    if (Date.now() > until) {
      waiting.textContent = "Reload the page to look again.";
      return;
    }
    if (!document.hidden) {
      const response = await reportd.get("/api/v1/reports/suite-runs?limit=1");
      const runs = response && (await response.json());
      if (runs && (runs.items ?? runs).length) {
        location.reload();
        return;
      }
    }
    setTimeout(look, 3000);
  }
  setTimeout(look, 3000);
})();
