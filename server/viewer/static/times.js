// The server draws times in UTC, and a time with a title as an age. This makes them local; the title has both.
"use strict";

(() => {
  const local = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "medium" });
  const age = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });
  const UNITS = [["year", 31536000], ["month", 2592000], ["day", 86400], ["hour", 3600], ["minute", 60]];
  const ages = new Set();

  function ago(at) {
    const seconds = (at - Date.now()) / 1000;
    const unit = UNITS.find(([, length]) => Math.abs(seconds) >= length);
    return unit ? age.format(Math.trunc(seconds / unit[1]), unit[0]) : "just now";
  }

  /** @param {ParentNode} place */
  function convert(place) {
    for (const time of place.querySelectorAll("time:not([data-local])")) {
      const at = new Date(time.dateTime);
      if (isNaN(at.getTime())) continue;
      const utc = time.title || time.textContent;
      if (time.title) ages.add(time);
      time.textContent = time.title ? ago(at) : local.format(at);
      time.title = `${local.format(at)} (${utc})`;
      time.dataset.local = "";
    }
  }

  convert(document);
  document.addEventListener("reportd:put", (event) => convert(event.detail));
  setInterval(() => {
    for (const time of ages) {
      if (time.isConnected) time.textContent = ago(new Date(time.dateTime));
      else ages.delete(time);
    }
  }, 60000);

  const zone = document.getElementById("zone");
  if (zone) zone.textContent = `Times are in ${local.resolvedOptions().timeZone}.`;
})();
