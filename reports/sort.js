// Sorts the rows of a table by the column whose head is clicked; a second click reverses the order.
"use strict";
(() => {
  const number = (text) => Number(text.replace(/[,%\s\u00a0]/g, ""));

  // Numbers sort by size, other text alphabetically; an en dash (no value) always comes last.
  function compare(a, b) {
    const [x, y] = [number(a), number(b)];
    return Number.isNaN(x) || Number.isNaN(y) ? a.localeCompare(b, "en") : x - y;
  }

  function sort(table, head) {
    const column = [...head.parentNode.children].indexOf(head);
    const direction = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
    for (const each of head.parentNode.children) each.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
    const body = table.tBodies[0];
    const rows = [...body.rows].map((row) => [row, (row.cells[column].firstChild?.textContent ?? "").trim()]);
    const empty = (text) => text === "\u2013" || text === "";
    rows.sort(([, a], [, b]) => empty(a) - empty(b) || direction * compare(a, b));
    body.append(...rows.map(([row]) => row));
  }

  for (const table of document.querySelectorAll("table.sortable")) {
    for (const button of table.querySelectorAll("th button")) {
      button.addEventListener("click", () => sort(table, button.parentNode));
    }
  }
})();
