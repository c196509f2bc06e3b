// Sorts a table by the column whose head is clicked, first upwards, then downwards; empty cells stay last.
"use strict";

function key(text) {
  const time = text && text.match(/^(?:(\d+)h)?(?:(\d+)m)?(?:([\d.]+)s)?$/);
  if (time) return (time[1] || 0) * 3600 + (time[2] || 0) * 60 + Number(time[3] || 0);
  return /^[-+]?[\d.]+( %)?$/.test(text) ? parseFloat(text) : text;
}

function order(a, b) {
  if (typeof a === typeof b) return typeof a === "number" ? a - b : a < b ? -1 : Number(a > b);
  return typeof a === "number" ? -1 : 1;
}

for (const table of document.querySelectorAll("table")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "sort";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const sign = head.ariaSort === "ascending" ? -1 : 1;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.ariaSort = sign > 0 ? "ascending" : "descending";
      const text = (row) => row.cells[column].textContent.trim();
      const rows = [...table.tBodies[0].rows];
      rows.sort((a, b) => (text(a) === "") - (text(b) === "") || sign * order(key(text(a)), key(text(b))));
      table.tBodies[0].append(...rows);
    });
  });
}
