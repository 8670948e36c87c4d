"use strict";
// Every table is sorted by a click on a column's title; each body (a block between two rules) by itself.
const value = (cell) => {
  const text = cell.textContent.trim().replace(/\u2212/g, "-").replace(/^[<>]\s*/, "");
  const number = Number.parseFloat(text);
  return /^[+-]?[\d.]/.test(text) && !Number.isNaN(number) ? number : text;
};
const compare = (a, b) => {
  if (typeof a === "number" && typeof b === "number") return a - b;
  if (typeof a === "number") return -1;
  if (typeof b === "number") return 1;
  return a.localeCompare(b, "en");
};
for (const table of document.querySelectorAll("table")) {
  table.querySelectorAll("thead th").forEach((head, index) => {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      for (const body of table.tBodies) {
        const rows = [...body.rows];
        rows.sort((a, b) => (down ? -1 : 1) * compare(value(a.cells[index]), value(b.cells[index])));
        body.append(...rows);
      }
    });
  });
}
// A link to a folded section opens it.
const unfold = () => {
  document.getElementById(decodeURIComponent(location.hash.slice(1)))?.querySelector("details")?.setAttribute("open", "");
};
addEventListener("hashchange", unfold);
unfold();
