// Starts Swagger UI on the OpenAPI document of this server, and opens the operation that the table of contents links to.
"use strict";

const dark = matchMedia("(prefers-color-scheme: dark)");
const paint = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", paint);
paint();

const contents = document.querySelectorAll("#contents details");
if (matchMedia("(min-width: 64rem)").matches) contents.forEach((group) => (group.open = true));

const ui = SwaggerUIBundle({
  url: "/api/v1/openapi.json",
  domNode: document.getElementById("api"),
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  validatorUrl: null, // otherwise it may send the address of this server to another host
  deepLinking: true,
  docExpansion: "none",
  defaultModelExpandDepth: 3,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  filter: true,
  requestSnippetsEnabled: false,
});
addEventListener("hashchange", () => ui.layoutActions.parseDeepLinkHash(location.hash));
