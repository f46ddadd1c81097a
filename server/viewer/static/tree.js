// The tree of a JSON file: the path of the row in use, to be copied.
"use strict";

(() => {
  const tree = document.querySelector(".tree");
  const path = document.getElementById("path");

  function choose(event) {
    const row = event.target.closest("li");
    if (!row) return;
    path.textContent = "";
    for (let each = row; each; each = each.parentElement.closest("li")) path.prepend(each.dataset.step);
  }
  path.parentElement.hidden = false;
  for (const row of tree.querySelectorAll("li:not(:has(details))")) row.tabIndex = 0;
  tree.addEventListener("click", choose);
  tree.addEventListener("focusin", choose);
})();
