// What all scripts share. `reportd.put` is the only place that turns text into HTML: the policy of the pages allows no
// other, and what it puts in was drawn by this server.
"use strict";

const reportd = (() => {
  const policy = window.trustedTypes?.createPolicy("reportd", { createHTML: (text) => text, createScriptURL: (url) => url });

  /** Show a sentence at the top of the page; an empty one hides it. */
  function notice(text) {
    const place = document.getElementById("notice");
    place.textContent = text;
    place.hidden = !text;
  }

  /** Replace the content of `place` with HTML that this server has drawn, or with what the page had in store. */
  function put(place, text) {
    if (text instanceof Node) place.replaceChildren(text);
    else place.innerHTML = policy ? policy.createHTML(text) : text;
    document.dispatchEvent(new CustomEvent("reportd:put", { detail: place }));
  }

  /**
   * Fetch a fragment. Null when it could not be had: then the page says why, or the browser is on its way to sign in.
   * @param {string} address
   * @param {RequestInit} [options]
   */
  async function get(address, options) {
    let response;
    try {
      response = await fetch(address, { headers: { "X-Fragment": "1" }, ...options });
    } catch (error) {
      if (error.name !== "AbortError") notice("The server cannot be reached. Check the connection and try again.");
      return null;
    }
    if (response.redirected && new URL(response.url).pathname === "/sign-in") {
      location.assign("/sign-in?" + new URLSearchParams({ next: location.pathname + location.search }));
      return null;
    }
    if (response.status === 304) return null;
    if (!response.ok) {
      notice(response.status === 404 || response.status === 410 ? "This is gone: it has been deleted meanwhile." :
        `The server answered with error ${response.status}. Try again.`);
      return null;
    }
    notice("");
    return response;
  }

  /** The address of a script of this server, as a worker takes it. */
  const url = (address) => (policy ? policy.createScriptURL(address) : address);

  // Buttons that copy the text of the place that they name, or of what is around them.
  if (navigator.clipboard) document.documentElement.classList.add("copies"); // only over TLS or on this machine
  document.addEventListener("click", async (event) => {
    const button = event.target.closest?.("[data-copy]");
    if (!button) return;
    const place = document.getElementById(button.dataset.copy) ?? button.parentElement;
    const texts = [...place.querySelectorAll("bdi")].map((each) => each.textContent);
    await navigator.clipboard.writeText(texts.join("\n") || place.textContent.trim() + (place.tagName === "PRE" ? "\n" : ""));
    button.textContent = "Copied";
    setTimeout(() => (button.textContent = "Copy"), 2000);
  });

  /** A new element with these properties. */
  const make = (tag, properties) => Object.assign(document.createElement(tag), properties);

  return { get, make, notice, policy, put, url };
})();
