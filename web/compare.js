// Filters the rows of a comparison. Everything is in the page without it.
"use strict";
(() => {
  const $ = (id) => document.getElementById(id);
  function filter() {
    const words = $("words").value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const row of $("rows").tBodies[0].rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = ($("finding").value !== "" && row.dataset.state !== $("finding").value) || !words.every((word) => text.includes(word));
      count += row.hidden ? 0 : 1;
    }
    $("shown").textContent = `${count} row${count === 1 ? "" : "s"}`;
  }
  document.querySelector(".controls").hidden = false;
  $("finding").addEventListener("change", filter);
  $("words").addEventListener("input", filter);
  filter();
})();
